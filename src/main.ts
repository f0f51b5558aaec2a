#!/usr/bin/env node
/**
 * The `veilrisk` command: parses, wires, runs. The only place where every room meets.
 */
import { Command } from 'commander';
import { registerAggregator } from '../federated/aggregator/main.ts';
import { serveApi } from './api/server.ts';
import { registerApiKey } from './commands/apikey.ts';
import { registerAudit } from './commands/audit.ts';
import { registerContract } from './commands/contract.ts';
import { registerDemo } from './commands/demo.ts';
import { printFailure } from './commands/failure.ts';
import { registerImport } from './commands/import.ts';
import { registerNode } from './commands/node.ts';
import { registerPrivacy } from './commands/privacy.ts';
import { registerSimulate } from './commands/simulate.ts';
import { registerTrain } from './commands/train.ts';
import { readSettings } from './config.ts';
import { openNode } from './operations/context.ts';

const program = new Command('veilrisk')
  .description(
    'Privacy-preserving financial risk platform: federated scorecards under differential privacy, encrypted scoring,\n' +
      'and a tamper-evident audit log.',
  )
  .version('0.1.0')
  .showHelpAfterError('(add --help for the options and examples)')
  .addHelpText(
    'after',
    `
Start here:
  $ npm run demo                              four banks and an aggregator on this machine, in about a minute
  $ npm run veilrisk -- VERB --help           the options of a verb, with examples`,
  );

try {
  const settings = readSettings();
  registerDemo(program, settings);
  registerNode(program, settings, serveApi);
  registerImport(program, (options) => openNode(settings, options));
  registerTrain(program, settings);
  registerPrivacy(program, (options) => openNode(settings, options));
  registerAudit(program, (options) => openNode(settings, options));
  registerApiKey(program, (options) => openNode(settings, options));
  registerContract(program);
  registerSimulate(program);
  registerAggregator(program, settings);
  await program.parseAsync();
} catch (error) {
  printFailure(error);
}
