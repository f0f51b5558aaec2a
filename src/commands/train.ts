/** `veilrisk train`: the operator proposes a training plan, follows it, ends it, and fetches the signed model; a bank decides. */
import { writeFile } from 'node:fs/promises';
import { type Command, Option } from 'commander';
import type { OpenNode } from '../operations/context.ts';
import { readContract } from '../operations/contracts.ts';
import {
  abort,
  describeEvaluation,
  describePlan,
  openOperator,
  planProgress,
  propose,
  publishedModel,
  readPlan,
  writePlan,
} from '../operations/trainingPlans.ts';
import { integerOption, numberOption } from './options.ts';
import { wrapped } from './text.ts';
import { registerTrainAnswers } from './trainAnswers.ts';
import { registerTrainReports } from './trainReports.ts';
import { aggregatorModel, COLLUDERS, trustMode } from './trustOptions.ts';

interface OperatorFlags {
  roster: string;
  operatorKey: string;
  aggregator?: string;
}

const FOLLOW_MS = 500;
const FAMILIES = ['scorecard', 'logistic', 'mlp'] as const;
const STRATEGIES = ['fedavg', 'fedprox', 'fedadam'] as const;

export function registerTrain(program: Command, _settings: unknown, openNode: OpenNode): void {
  const train = program
    .command('train')
    .description('propose, follow and end a federated training plan (operator), or decide on one (bank)');

  operatorFlags(train.command('propose'))
    .description('say what a plan costs in privacy, sign it and send it to the aggregator')
    .requiredOption('--contract <file>', 'feature contract all banks hold: a file, or the name of a published one')
    .option('--epsilon <number>', 'privacy loss of each bank over the whole plan', numberOption, 1)
    .option('--delta <number>', 'probability that the loss is larger', numberOption, 1e-6)
    .option('--rows <number>', 'rows of all banks together, a public estimate', integerOption, 40_000)
    .addOption(new Option('--family <name>', 'what is trained').choices(FAMILIES).default('scorecard'))
    .addOption(trustMode())
    .option(
      '--quorum <number>',
      'banks a round needs (default: what the threshold asks, at least two thirds)',
      integerOption,
    )
    .option('--colluders <number>', COLLUDERS, integerOption)
    .option(
      '--dropouts <number>',
      'mode sum: banks that may be absent from a round (default: all but the quorum)',
      integerOption,
    )
    .addOption(aggregatorModel())
    .option(
      '--ring-bits <number>',
      'mode sum: bits of the numbers that are summed under masks (default: 32)',
      integerOption,
    )
    .option('--rounds <number>', 'gradient rounds', integerOption)
    .addOption(new Option('--strategy <name>', 'logistic and mlp: what becomes of the updates').choices(STRATEGIES))
    .option('--local-steps <number>', "logistic and mlp: a bank's steps in a round", integerOption)
    .option('--round-deadline-ms <number>', 'how long a round waits for its last sites', integerOption)
    .option('--holdout <share>', 'share of the customers that only evaluate the model', numberOption, 0.2)
    .option(
      '--evaluation-share <share>',
      'share of the privacy loss (mu squared) the evaluation takes',
      numberOption,
      0.2,
    )
    .option('--no-evaluation', 'train on all customers and measure nothing')
    .option('--plan <file>', 'propose this plan instead of writing one')
    .option('--dry-run', 'print the plan and its privacy statement, send nothing')
    .option('--json', 'print {planId, planHash} as JSON')
    .addHelpText(
      'after',
      `
Examples:
  $ veilrisk train propose --roster roster.json --operator-key operator.pem --contract taiwan --dry-run
  $ veilrisk train propose --roster roster.json --operator-key operator.pem --contract taiwan --epsilon 1
  $ veilrisk train propose --roster roster.json --operator-key operator.pem --contract taiwan --colluders 2 --dropouts 1
  $ veilrisk train propose --roster roster.json --operator-key operator.pem --contract taiwan --mode site`,
    )
    .action(async (flags) => {
      const operator = await openOperator(operatorPaths(flags));
      const { contract } = await readContract(flags.contract);
      const plan = flags.plan
        ? await readPlan(flags.plan)
        : writePlan(operator.roster, {
            ...{ ...flags, contract, expectedRows: flags.rows, aggregator: flags.aggregatorModel },
            evaluation: flags.evaluation ? { holdout: flags.holdout, share: flags.evaluationShare } : null,
          });
      if (!flags.json) {
        for (const sentence of describePlan(plan)) process.stderr.write(`${wrapped('', sentence)}\n`);
      }
      if (flags.dryRun) {
        process.stdout.write(`${JSON.stringify(plan, null, 2)}\n`);
        return;
      }
      const receipt = await propose(operator, plan, contract);
      process.stdout.write(flags.json ? `${JSON.stringify(receipt)}\n` : `proposed plan ${receipt.planId}\n`);
    });

  operatorFlags(train.command('status'))
    .description('state of a plan: who accepted, which round is open, why it ended')
    .argument('<plan>', 'plan id')
    .option('--follow', 'print changes until the plan ends')
    .option('--json', 'print the whole report as JSON')
    .addHelpText(
      'after',
      `
Example:
  $ veilrisk train status 0b8f... --roster roster.json --operator-key operator.pem --follow`,
    )
    .action(async (planId: string, flags) => {
      const operator = await openOperator(operatorPaths(flags));
      let last = '';
      for (;;) {
        const report = await planProgress(operator, planId);
        const line = flags.json ? JSON.stringify(report) : describeProgress(report);
        if (line !== last) process.stdout.write(`${line}\n`);
        last = line;
        const ended = report.state === 'completed' || report.state === 'aborted';
        if (report.state === 'completed' && !flags.json) {
          const lines = describeEvaluation(await publishedModel(operator, planId));
          for (const each of lines) process.stdout.write(`${each}\n`);
        }
        if (!flags.follow || ended) return;
        await new Promise((done) => setTimeout(done, FOLLOW_MS));
      }
    });

  operatorFlags(train.command('abort'))
    .description('end a plan for good; what banks have released for it stays spent')
    .argument('<plan>', 'plan id')
    .option('--reason <text>', 'what the banks read', 'The operator ended the plan.')
    .option('--json', 'print {planId, state} as JSON')
    .addHelpText(
      'after',
      `
Example:
  $ veilrisk train abort 0b8f... --roster roster.json --operator-key operator.pem`,
    )
    .action(async (planId: string, flags) => {
      const { state } = await abort(await openOperator(operatorPaths(flags)), planId, flags.reason);
      process.stdout.write(flags.json ? `${JSON.stringify({ planId, state })}\n` : `plan ${planId} ${state}\n`);
    });

  registerTrainAnswers(train, openNode);
  registerTrainReports(train, operatorFlags);

  operatorFlags(train.command('model'))
    .description('fetch the signed model of a completed plan and check its signature')
    .argument('<plan>', 'plan id')
    .requiredOption('--out <file>', 'where to write {model, evidence}')
    .addHelpText(
      'after',
      `
Example:
  $ veilrisk train model 0b8f... --roster roster.json --operator-key operator.pem --out model.json`,
    )
    .action(async (planId: string, flags) => {
      const operator = await openOperator(operatorPaths(flags));
      const signed = await publishedModel(operator, planId);
      await writeFile(flags.out, `${JSON.stringify(signed, null, 2)}\n`);
      process.stdout.write(`model ${signed.evidence.modelHash} written to ${flags.out}\n`);
      for (const line of describeEvaluation(signed)) process.stdout.write(`${line}\n`);
    });
}

type Progress = Awaited<ReturnType<typeof planProgress>>;

function describeProgress(progress: Progress): string {
  const { state, round, of, phase, attempt, contributions, code, reason, answers } = progress;
  const refusals = answers
    .filter(({ accepted }) => !accepted)
    .map((answer) => `\n  ${answer.site} refused: ${answer.code} ${answer.reason}`)
    .join('');
  if (state === 'proposed') {
    return `${state}, accepted by ${answers.filter(({ accepted }) => accepted).length} sites${refusals}`;
  }
  const where = round > of ? 'evaluation round' : `round ${round}/${of}`;
  const step = phase === '' ? '' : `, waits for ${phase}${attempt > 1 ? ` in attempt ${attempt}` : ''}`;
  const came = `${contributions} ${contributions === 1 ? 'contribution' : 'contributions'}`;
  return `${state} ${where}${step}, ${came}${reason === '' ? '' : `: ${code} ${reason}`}${refusals}`;
}

function operatorFlags(command: Command): Command {
  return command
    .requiredOption('--roster <file>', 'consortium roster')
    .requiredOption('--operator-key <file>', "operator's Ed25519 key (PEM)")
    .option('--aggregator <url>', "overrides the roster's address of the aggregator");
}

function operatorPaths(flags: OperatorFlags): { roster: string; key: string; url: string | undefined } {
  return { roster: flags.roster, key: flags.operatorKey, url: flags.aggregator };
}
