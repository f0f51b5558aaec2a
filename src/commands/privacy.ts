/** `veilrisk privacy`: what was spent of the privacy budget, and on what. */
import Table from 'cli-table3';
import type { Command } from 'commander';
import type { OpenNode } from '../operations/context.ts';
import { readLedger } from '../operations/ledger.ts';

export function registerPrivacy(program: Command, openNode: OpenNode): void {
  const privacy = program.command('privacy').description("the node's privacy ledger");

  privacy
    .command('ledger')
    .description('budget, spent and left of each data set, and the release behind each line')
    .option('--data-dir <dir>', 'where `node init` put the keys')
    .option('--database-url <url>', 'PostgreSQL to use instead of the embedded one')
    .option('--json', 'print the ledger as JSON')
    .addHelpText(
      'after',
      `
A release that was reserved and never committed (the process was killed in between) counts as spent.

Example:
  $ veilrisk privacy ledger --data-dir /var/lib/veilrisk/bank-a`,
    )
    .action(async (flags) => {
      const context = await openNode(flags);
      try {
        const ledgers = await readLedger(context);
        if (flags.json) {
          process.stdout.write(`${JSON.stringify(ledgers, null, 2)}\n`);
          return;
        }
        for (const ledger of ledgers) {
          process.stdout.write(
            `data set ${ledger.dataset}: budget epsilon ${ledger.budget.epsilon} at delta ${ledger.budget.delta}, ` +
              `spent ${ledger.spentEpsilon.toFixed(4)}\n`,
          );
          const table = new Table({
            head: ['plan', 'round', 'attempt', 'state', 'mu', 'share of budget', 'reserved at'],
          });
          for (const line of ledger.releases) {
            table.push([
              line.planId,
              line.round,
              line.attempt,
              line.state,
              Math.sqrt(line.muSquared).toFixed(6),
              `${((100 * line.muSquared) / ledger.budget.muSquared).toFixed(2)} %`,
              line.reservedAt,
            ]);
          }
          process.stdout.write(`${table.toString()}\n`);
        }
        if (ledgers.length === 0) process.stdout.write('no data set yet; see `veilrisk import --help`\n');
      } finally {
        await context.close();
      }
    });
}
