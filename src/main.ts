#!/usr/bin/env node
/**
 * The `veilrisk` command: parses, wires, runs. The only place where every room meets.
 *
 * Only the verb that was asked for is loaded: a short command does not wait for libraries it never uses.
 */
import { Command } from 'commander';
import { printFailure } from './commands/failure.ts';
import { readSettings, type Settings } from './config.ts';
import type { OpenNode } from './operations/context.ts';

type Register = (program: Command, settings: Settings, openNode: OpenNode) => void;

/** Verb -> how to load it, in the order of the help text. */
const VERBS: Record<string, () => Promise<Register>> = {
  demo: async () => (await import('./commands/demo.ts')).registerDemo,
  simulate: async () => (await import('./commands/simulate.ts')).registerSimulate,
  'simulate-federation': async () => (await import('./commands/simulateFederation.ts')).registerSimulateFederation,
  contract: async () => (await import('./commands/contract.ts')).registerContract,
  node: async () => {
    const [{ registerNode }, { serveApi }] = await Promise.all([
      import('./commands/node.ts'),
      import('./api/server.ts'),
    ]);
    return (program, settings, openNode) => registerNode(program, settings, openNode, serveApi);
  },
  import: async () => {
    const { registerImport } = await import('./commands/import.ts');
    return (program, _settings, openNode) => registerImport(program, openNode);
  },
  provision: async () => (await import('./commands/provision.ts')).registerProvision,
  aggregator: async () => (await import('../federated/aggregator/main.ts')).registerAggregator,
  plan: async () => {
    const { registerPlan } = await import('./commands/plan.ts');
    return (program, _settings, openNode) => registerPlan(program, openNode);
  },
  train: async () => (await import('./commands/train.ts')).registerTrain,
  evaluate: async () => (await import('./commands/evaluate.ts')).registerEvaluate,
  privacy: async () => {
    const { registerPrivacy } = await import('./commands/privacy.ts');
    return (program, _settings, openNode) => registerPrivacy(program, openNode);
  },
  'privacy-audit': async () => (await import('./commands/privacyAudit.ts')).registerPrivacyAudit,
  apikey: async () => {
    const { registerApiKey } = await import('./commands/apikey.ts');
    return (program, _settings, openNode) => registerApiKey(program, openNode);
  },
  callers: async () => {
    const { registerCallers } = await import('./commands/callers.ts');
    return (program, _settings, openNode) => registerCallers(program, openNode);
  },
  keys: async () => (await import('./commands/keys.ts')).registerKeys,
  score: async () => (await import('./commands/score.ts')).registerScore,
  audit: async () => {
    const { registerAudit } = await import('./commands/audit.ts');
    return (program, _settings, openNode) => registerAudit(program, openNode);
  },
};

const program = new Command('veilrisk')
  .description(
    'Privacy-preserving financial risk platform: federated scorecards under differential privacy, encrypted scoring, ' +
      'and a tamper-evident audit log.',
  )
  .version('0.1.0')
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2))
  .showHelpAfterError('(add --help for the options and examples)')
  .addHelpText(
    'after',
    `
Start here:
  $ npm run demo                        four banks and an aggregator on this machine, in about a minute
  $ npm run veilrisk -- VERB --help     the options of a verb, with examples`,
  );

try {
  const settings = readSettings();
  const openNode: OpenNode = async (flags) => (await import('./operations/context.ts')).openNode(settings, flags);
  const asked = VERBS[process.argv[2] ?? ''];
  for (const load of asked ? [asked] : Object.values(VERBS)) (await load())(program, settings, openNode);
  await program.parseAsync();
} catch (error) {
  printFailure(error);
}
