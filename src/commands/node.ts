/** `veilrisk node`: a bank's keys and policies, and its server. */
import type { Command } from 'commander';
import type { Settings } from '../config.ts';
import { initNode, type OpenNode } from '../operations/context.ts';
import { type ServeApi, serveNode } from '../operations/serveNode.ts';
import { integerOption, numberOption } from './options.ts';

export function registerNode(program: Command, settings: Settings, openNode: OpenNode, serveApi: ServeApi): void {
  const node = program.command('node').description("a bank's node: its keys, policies and server");

  node
    .command('init')
    .description("create the node's keys and policies; `provision site` then asks for a place in a consortium")
    .requiredOption('--name <name>', 'site id: a-z, 0-9 and "-"')
    .option('--data-dir <dir>', 'where the node keeps its keys and embedded database', settings.VEILRISK_DATA_DIR)
    .option('--budget-epsilon <number>', 'privacy loss this bank allows in total for a data set', numberOption, 2)
    .option('--budget-delta <number>', 'probability that the loss is larger', numberOption, 1e-6)
    .option('--json', 'print {id, identityKey} as JSON')
    .addHelpText(
      'after',
      `
The private keys never leave the data directory. Edit participation-policy.json and decision-policy.json there before starting.

Example:
  $ veilrisk node init --name bank-a --data-dir /var/lib/veilrisk/bank-a --budget-epsilon 4`,
    )
    .action(async (flags) => {
      const site = await initNode({
        name: flags.name,
        dataDir: flags.dataDir,
        budget: { epsilon: flags.budgetEpsilon, delta: flags.budgetDelta },
      });
      process.stdout.write(
        flags.json ? `${JSON.stringify(site)}\n` : `node ${site.id} initialised in ${flags.dataDir}\n`,
      );
    });

  node
    .command('start')
    .description('serve the REST API and, with a roster, take part in federated training; Ctrl-C stops it cleanly')
    .option('--data-dir <dir>', 'where `node init` put the keys', settings.VEILRISK_DATA_DIR)
    .option('--database-url <url>', 'PostgreSQL to use instead of the embedded one (better: environment DATABASE_URL)')
    .option('--host <host>', 'address to listen on', settings.VEILRISK_HOST)
    .option('--port <port>', 'port to listen on, 0 for any', integerOption, settings.VEILRISK_PORT)
    .option(
      '--roster <file>',
      'signed roster instead of the one `provision join` accepted; not older',
      settings.VEILRISK_ROSTER,
    )
    .option('--aggregator <url>', "overrides the roster's address of the aggregator", settings.VEILRISK_AGGREGATOR_URL)
    .option('--init', 'initialise the data directory first if it is empty (needs --name)')
    .option('--name <name>', 'site id, with --init')
    .option('--progress-json', 'print one JSON object a line on standard output: ready, plan, release, model')
    .addHelpText(
      'after',
      `
Examples:
  $ veilrisk node start --data-dir /var/lib/veilrisk/bank-a
  $ veilrisk node start --data-dir /var/lib/veilrisk/bank-a --aggregator https://aggregator.example:7443

veilrisk provision join accepts a roster; a running node takes a newer one up by itself.`,
    )
    .action(async (flags) => {
      if (flags.init) await initNode({ name: flags.name, dataDir: flags.dataDir, unlessExists: true });
      const context = await openNode({ ...flags, encryption: true });
      await serveNode(context, serveApi, flags);
    });
}
