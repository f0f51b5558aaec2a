/** `veilrisk demo`: the main job, end to end, on this machine. */
import { writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { RequestError } from '../errors.ts';
import { runDemo } from '../operations/demo/run.ts';
import { openDemoView } from '../operations/demo/view.ts';
import { integerOption, numberOption } from './options.ts';

export function registerDemo(program: Command): void {
  program
    .command('demo')
    .description('four banks and an aggregator on this machine: train together, score, verify the audit logs')
    .option('--data <file>', 'real data (CSV or CSV.gz) split over the banks, instead of synthetic transactions')
    .option('--contract <file>', 'feature contract of --data')
    .option('--banks <number>', 'number of banks', integerOption, 4)
    .option('--rows <number>', 'synthetic transactions of each bank', integerOption, 60_000)
    .option('--epsilon <number>', 'privacy loss of each bank', numberOption, 1)
    .option('--delta <number>', 'probability that the loss is larger', numberOption, 1e-6)
    .option(
      '--seed <number>',
      'seed of the synthetic transactions (the privacy noise is never seeded)',
      integerOption,
      1,
    )
    .option('--json <file>', 'write the results as JSON')
    .option('--keep', 'leave everything running and print the URLs; Ctrl-C stops it')
    .addHelpText(
      'after',
      `
Every part is a process of its own with its own database in a temporary directory; Ctrl-C stops all of them. What is
worth looking at afterwards (audit logs, model, roster) is written to .veilrisk/demo.

Examples:
  $ npm run demo
  $ npm run demo -- --keep
  $ npm run demo -- --data taiwan.csv.gz --contract contracts/taiwan.json --json demo.json`,
    )
    .action(async (flags) => {
      if ((flags.data === undefined) !== (flags.contract === undefined)) {
        throw new RequestError('USAGE', '--data and --contract belong together', {
          where: flags.data === undefined ? '--data' : '--contract',
          fix: 'give both, or neither for synthetic transactions',
        });
      }
      if (flags.banks < 2 || flags.banks > 8) {
        throw new RequestError('USAGE', 'the demo runs 2 to 8 banks', { where: '--banks', fix: 'choose 2 to 8' });
      }
      const stop = new AbortController();
      const onSignal = () => stop.abort();
      process.once('SIGINT', onSignal);
      process.once('SIGTERM', onSignal);
      const result = await runDemo({ ...flags, signal: stop.signal }, openDemoView(process.stdout));
      if (result === null) {
        process.exitCode = 130;
        return;
      }
      if (flags.json) await writeFile(flags.json, `${JSON.stringify(result, null, 2)}\n`);
    });
}
