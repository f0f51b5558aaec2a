/** `veilrisk evaluate`: for researchers: test AUC at each privacy loss on any CSV file with a contract. NOT private. */
import { SingleBar } from 'cli-progress';
import type { Command } from 'commander';
import { type Evaluation, type EvaluationView, evaluate } from '../operations/evaluation/evaluate.ts';
import { parseEpsilons, parseFamilies, parseModes } from '../operations/evaluation/settings.ts';
import { fileBytes } from '../operations/readRows.ts';
import { integerOption, numberOption } from './options.ts';
import { plainTable } from './text.ts';

interface EvaluateFlags {
  contract: string;
  data: string;
  epsilon: string;
  delta: number;
  mode: string;
  sites: number;
  colluders: number;
  dropouts: number;
  splits: number;
  seed: number;
  family: string;
  jobs: number;
  maxRejected: number;
  reference: boolean;
  json?: string;
}

const NOT_PRIVATE =
  'NOT PRIVATE: for researchers. These figures are computed from the records without noise. On data of real customers\n' +
  'they must not leave the bank, and choosing settings by them is a use of the data that no epsilon accounts for.';

export function registerEvaluate(program: Command): void {
  program
    .command('evaluate')
    .description('for researchers: test AUC at each privacy loss, for any CSV file with a contract; NOT private')
    .requiredOption('--contract <contract>', 'contract file, or the name of a published contract')
    .requiredOption('--data <file>', 'CSV file, plain or gzip')
    .option('--epsilon <list>', 'privacy losses, separated by commas', '0.5,1,2,4')
    .option('--delta <number>', 'probability that the loss is larger', numberOption, 1e-6)
    .option('--mode <list>', 'single: one bank; site: each bank adds all noise; sum: the banks share it', 'single')
    .option('--sites <number>', 'banks of modes site and sum', integerOption, 5)
    .option('--colluders <number>', 'mode sum: banks that may collude with the aggregator', integerOption, 0)
    .option('--dropouts <number>', 'mode sum: banks that may drop out', integerOption, 0)
    .option('--splits <number>', 'random 80/20 splits to average over', integerOption, 5)
    .option('--seed <number>', 'seed of the splits; noise is never seeded', integerOption, 1)
    .option('--family <list>', 'scorecard, logistic, mlp, adassp', 'scorecard')
    .option('--jobs <number>', 'fits side by side; more than 1 makes each slower', integerOption, 1)
    .option('--max-rejected <share>', 'leave out rows that break the contract, up to this share', numberOption, 0)
    .option('--no-reference', 'do not fit the scorecard without privacy for comparison')
    .option('--json <file>', 'write [{family, mode, sites, epsilon, delta, aucMean, aucSd, fitSecondsMean}] here')
    .addHelpText(
      'after',
      `
${NOT_PRIVATE}

Split s of a seed is a random 80/20 split of the customers (of the rows, when the contract names no customer key),
stratified by nothing; modes site and sum deal the training side to the banks, customer by customer. Training uses at
most maxRecordsPerSubject rows of a customer, and the noise follows. The number of training rows is taken as public: batches,
rounds and denominators follow from it. fitSecondsMean is training alone, in one thread.

Examples:
  $ veilrisk evaluate --contract adult --data adult.data.gz --epsilon 0.5,1,2,4 --json adult.json
  $ veilrisk evaluate --contract c.json --data d.csv.gz --mode site,sum --sites 5 --family scorecard,adassp --epsilon 1`,
    )
    .action(async ({ epsilon, family, mode, json, ...flags }: EvaluateFlags) => {
      const lists = { epsilons: parseEpsilons(epsilon), families: parseFamilies(family), modes: parseModes(mode) };
      const stop = new AbortController();
      let status = 130;
      const stopBy = (code: number) => () => {
        status = code;
        stop.abort();
      };
      const [onInterrupt, onTerminate] = [stopBy(130), stopBy(143)];
      process.once('SIGINT', onInterrupt);
      process.once('SIGTERM', onTerminate);
      const view = openView(await fileBytes(flags.data));
      if (!process.stdout.isTTY) process.stderr.write(`${NOT_PRIVATE}\n`);
      let evaluation: Evaluation | null;
      try {
        evaluation = await evaluate({ ...flags, ...lists, out: json ?? null, signal: stop.signal }, view);
      } finally {
        view.close();
        process.off('SIGINT', onInterrupt);
        process.off('SIGTERM', onTerminate);
      }
      if (evaluation === null) {
        process.stderr.write('stopped; nothing was written\n');
        process.exitCode = status;
        return;
      }
      process.stdout.write(`${describe(evaluation, flags.splits)}\n`);
      if (json !== undefined) process.stderr.write(`results written to ${json}\n`);
    });
}

function describe({ contract, results, reference }: Evaluation, splits: number): string {
  const table = plainTable(['family', 'mode', 'banks', 'epsilon', 'delta', 'test AUC', 'sd', 'fit seconds'], 2);
  const figures = ({ aucMean, aucSd, fitSecondsMean }: NonNullable<Evaluation['reference']>) => [
    aucMean.toFixed(4),
    splits === 1 ? '-' : aucSd.toFixed(4),
    fitSecondsMean.toFixed(3),
  ];
  for (const { family, mode, sites, epsilon, delta, ...measured } of results) {
    table.push([family, mode, sites, epsilon, delta.toExponential(), ...figures(measured)]);
  }
  if (reference !== null) table.push(['scorecard', 'no privacy', 1, 'infinite', '', ...figures(reference)]);
  const synthetic = contract.contract.synthetic ? ', SYNTHETIC data' : '';
  const over = `${splits} random 80/20 ${splits === 1 ? 'split' : 'splits'}`;
  return `${NOT_PRIVATE}\n\n${contract.contract.name}${synthetic}, mean over ${over}\n${table.toString()}`;
}

/** Bars on a terminal, a line now and then elsewhere. */
function openView(bytes: number): EvaluationView & { close(): void } {
  const { stderr } = process;
  const bar = new SingleBar({
    format: '{task}  {bar}  {percentage} %  {eta_formatted} left',
    barsize: 30,
    hideCursor: true,
    stream: stderr,
  });
  let said = 0;
  let started = false;
  const start = (task: string, total: number) => {
    bar.stop();
    bar.start(total, 0, { task });
    started = true;
  };
  const count = (value: number) => value.toLocaleString('en-US');
  return {
    reading(read) {
      if (!stderr.isTTY) return;
      if (!started) start('reading', bytes);
      bar.update(read);
    },
    loaded({ contract }, { data, customerCount, positives, rejected, clamped, doubts }, usable) {
      if (started) bar.stop();
      started = false;
      const of = contract.subject === null ? '' : ` of ${count(customerCount)} customers`;
      stderr.write(
        `read ${count(data.rows)} rows${of}, ${count(positives)} with the positive label; ` +
          `${count(usable)} may be trained on; ${count(clamped)} cells outside their bounds\n`,
      );
      if (rejected > 0) stderr.write(`left out ${count(rejected)} rows that break the contract\n`);
      for (const doubt of doubts) stderr.write(`doubt: ${doubt}; is it the right contract?\n`);
    },
    fitting(done, of) {
      if (stderr.isTTY) {
        if (!started) start('fitting', of);
        bar.update(done);
      } else if (done === of || done >= said + of / 10) {
        said = done;
        stderr.write(`fitted ${done} of ${of}\n`);
      }
    },
    close() {
      if (started) bar.stop();
    },
  };
}
