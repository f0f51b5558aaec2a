/** `veilrisk simulate`: writes synthetic card transactions of one of four made-up banks. */
import { SingleBar } from 'cli-progress';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { BANK_NAMES, type SimulationOptions, simulateToFile } from '../operations/simulate.ts';

interface SimulateOptions {
  bank: SimulationOptions['bank'];
  rows: number;
  customers?: number;
  terminals?: number;
  days: number;
  fraudRate: number;
  seed: number;
  out?: string;
}

export function registerSimulate(program: Command): void {
  program
    .command('simulate')
    .description('write SYNTHETIC card transactions with fraud: a file for tests and demonstrations, of no real person')
    .addOption(new Option('--bank <name>', 'whose customers and fraud to simulate').choices(BANK_NAMES).default('a'))
    .option('--rows <count>', 'transactions to write', wholeNumber, 100_000)
    .option('--customers <count>', 'cardholders (default: one for every four rows)', wholeNumber)
    .option(
      '--terminals <count>',
      'shops and online merchants (default: one for every 250 rows, at least 200)',
      wholeNumber,
    )
    .option('--days <count>', 'days to spread them over', wholeNumber, 60)
    .option('--fraud-rate <share>', 'share of fraudulent transactions', share, 0.02)
    .option('--seed <number>', 'the same seed gives the same file', wholeNumber, 1)
    .option('--out <file>', 'file to write; .gz compresses (default: synthetic-BANK.csv)')
    .addHelpText(
      'after',
      `
Examples:
  $ veilrisk simulate --bank a --rows 60000 --customers 17000 --out synthetic-a.csv
  $ veilrisk simulate --bank b --rows 1000000 --seed 7 --out synthetic-b.csv.gz

The file follows the contract demo-transactions: veilrisk import --contract demo-transactions --data synthetic-a.csv`,
    )
    .action(async ({ out, ...options }: SimulateOptions) => {
      const path = out ?? `synthetic-${options.bank}.csv`;
      const bar = new SingleBar({
        format: 'simulating  {bar}  {value}/{total} synthetic transactions',
        barsize: 30,
        hideCursor: true,
        stream: process.stderr,
      });
      const started = performance.now();
      bar.start(options.rows, 0);
      let summary: Awaited<ReturnType<typeof simulateToFile>>;
      try {
        summary = await simulateToFile({ ...options, out: path }, (rows) => bar.update(rows));
      } finally {
        bar.stop();
      }
      const seconds = (performance.now() - started) / 1000;
      const lines = [
        `SYNTHETIC data: ${count(summary.rows)} transactions, ${count(summary.frauds)} of them fraudulent, in ${seconds.toFixed(1)} s`,
        `file      ${path}`,
        `sha-256   ${summary.sha256} (of the text before compression)`,
        'contract  demo-transactions',
      ];
      process.stdout.write(`${lines.join('\n')}\n`);
    });
}

function wholeNumber(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('It must be a whole number.');
  return Number(text);
}

function share(text: string): number {
  if (!/^\d*\.?\d+$/.test(text)) throw new InvalidArgumentError('It must be a number such as 0.02.');
  return Number(text);
}

function count(value: number): string {
  return value.toLocaleString('en-US');
}
