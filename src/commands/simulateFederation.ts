/** `veilrisk simulate-federation`: a whole federation in one process, in virtual time, with whatever goes wrong. */
import { type Command, Option } from 'commander';
import {
  type Experiment,
  type ExperimentSettings,
  type RoundOutcome,
  runExperiment,
} from '../operations/simulateFederation/experiment.ts';
import { integerOption, numberOption } from './options.ts';
import { lossUp, plainTable } from './text.ts';

interface Flags extends Omit<ExperimentSettings, 'delayMs' | 'deadlineMs' | 'data'> {
  delay: number;
  deadline: number;
  data?: string[];
  json?: boolean;
}

export function registerSimulateFederation(program: Command): void {
  program
    .command('simulate-federation')
    .description('run a federation of many banks in one process and in virtual time, with drop-outs and a bad network')
    .option('--sites <number>', 'banks', integerOption, 10)
    .option('--drop <share>', 'chance that a bank drops out of a round, at any of its steps', numberOption, 0)
    .option('--restart <share>', 'chance that a bank or the aggregator starts anew in a round', numberOption, 0)
    .option('--rounds <number>', 'gradient rounds, or sums with --dimension', integerOption, 10)
    .addOption(
      new Option('--mode <mode>', 'sum: secure aggregation, the noise is shared; site: each bank adds all of it')
        .choices(['sum', 'site'])
        .default('sum'),
    )
    .option('--colluders <number>', 'mode sum: banks that may collude with the aggregator', integerOption, 0)
    .option('--dropouts <number>', 'banks that may be absent (default: as many as can be)', integerOption)
    .option(
      '--ring-bits <number>',
      'mode sum: bits of a number on the wire (default: 32 for scorecards)',
      integerOption,
    )
    .addOption(
      new Option('--family <name>', 'what is trained').choices(['scorecard', 'logistic', 'mlp']).default('scorecard'),
    )
    .addOption(
      new Option('--strategy <name>', 'logistic and mlp: what becomes of the updates (default: fedadam)').choices([
        'fedavg',
        'fedprox',
        'fedadam',
      ]),
    )
    .option('--epsilon <number>', 'privacy loss of each bank over the whole plan', numberOption, 1)
    .option('--delta <number>', 'probability that the loss is larger', numberOption, 1e-6)
    .option('--dimension <number>', 'sum made-up vectors of so many numbers instead of training', integerOption)
    .option('--contract <contract>', 'contract file, or the name of a published contract', 'demo-transactions')
    .option('--data <file...>', 'CSV files, one a bank, or one that is dealt to all (default: synthetic transactions)')
    .option('--rows <number>', 'synthetic transactions of each bank (default: 200,000 of all together)', integerOption)
    .option('--delay <ms>', 'mean one-way delay of a message', numberOption, 20)
    .option('--deadline <ms>', 'how long a step waits for its last banks', integerOption, 30_000)
    .option('--loss <share>', 'messages that are lost', numberOption, 0)
    .option('--duplicate <share>', 'messages that come twice', numberOption, 0)
    .option('--reorder <share>', 'messages that others overtake', numberOption, 0)
    .option('--slots <number>', 'mode sum: sums that one set-up of keys serves', integerOption, 16)
    .option('--seed <number>', 'the same seed gives the same run', integerOption, 1)
    .option('--json', 'print everything that was measured as JSON')
    .addHelpText(
      'after',
      `
NOT PRIVATE: noise and keys come from the seed, and the test AUC is exact. Time is virtual: a second passes as soon as
nothing is left to do in it. Bytes are those of the real messages, a signature's 64 included; TLS and HTTP/2 come on top.

Examples:
  $ veilrisk simulate-federation --sites 10 --drop 0.1
  $ veilrisk simulate-federation --sites 100 --drop 0.2 --restart 0.05 --loss 0.01 --rounds 5 --slots 2
  $ veilrisk simulate-federation --sites 30 --dimension 4096 --ring-bits 20 --json
  $ veilrisk simulate-federation --sites 20 --family logistic --strategy fedadam --rounds 30 --drop 0.1
  $ veilrisk simulate-federation --sites 5 --contract taiwan --data taiwan.csv.gz --mode site`,
    )
    .action(async ({ delay: delayMs, deadline: deadlineMs, json, data = [], ...flags }: Flags) => {
      const settings = { ...flags, data, delayMs, deadlineMs };
      const experiment = await runExperiment(settings, (round) => {
        if (!json) process.stderr.write(`${describeRound(round, flags.sites)}\n`);
      });
      process.stdout.write(json ? `${JSON.stringify(experiment)}\n` : `${describe(experiment)}\n`);
      if (experiment.breaches.length > 0) process.exitCode = 1;
    });
}

function describeRound(
  { round, contributors, attempts, epochs, exact, virtualMs }: RoundOutcome,
  sites: number,
): string {
  const again = attempts > 1 ? `, ${attempts} attempts` : '';
  const keys = epochs > 0 ? `, ${epochs} key set-up${epochs > 1 ? 's' : ''}` : '';
  const equal = exact ? 'equals the plain sum' : 'DIFFERS from the plain sum';
  return `round ${round}: ${contributors.length} of ${sites} banks, ${seconds(virtualMs)} virtual${again}${keys}; ${equal}`;
}

function describe(experiment: Experiment): string {
  const { state, code, sites, quorum, threshold, rounds, auc, losses, bytes, virtualMs, wallMs, breaches } = experiment;
  const table = plainTable(['step', 'up: bytes a bank', 'a round', 'down: bytes a bank', 'a round']);
  for (const phase of ['keys', 'shares', 'plain', 'inputs', 'agreement', 'reveal'] as const) {
    const sum = (way: 'up' | 'down') => rounds.reduce((total, round) => total + round.bytes[phase][way], 0) / sites;
    if (sum('up') + sum('down') === 0) continue;
    const figures = (way: 'up' | 'down') => [count(sum(way)), count(sum(way) / rounds.length)];
    table.push([phase, ...figures('up'), ...figures('down')]);
  }
  const refusals = Object.entries(experiment.refusals).map(([name, times]) => `${times} ${name}`);
  return [
    `${state}${code === '' ? '' : `: ${code}`} after ${rounds.length} rounds of ${sites} banks, quorum ${quorum}` +
      (threshold > 0 ? `, threshold ${threshold}` : ''),
    table.toString(),
    `virtual time  ${seconds(virtualMs)}, wall time ${seconds(wallMs)}, ${count(bytes)} bytes in all`,
    ...(auc === null ? [] : [`test AUC      ${auc.toFixed(4)} (exact, NOT private)`]),
    ...(losses === null
      ? []
      : [
          `loss          epsilon ${lossUp(losses.aggregator)} against the aggregator, ${lossUp(losses.readers)} against ` +
            `readers of the model, at delta ${losses.delta.toExponential()}`,
        ]),
    ...(refusals.length === 0 ? [] : [`refused       ${refusals.join(', ')} (late or repeated messages)`]),
    ...breaches.map((breach) => `BREACH        ${breach}`),
  ].join('\n');
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
const count = (value: number): string => Math.round(value).toLocaleString('en-US');
