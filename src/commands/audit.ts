/** `veilrisk audit`: take the log out, verify it anywhere, check it where it is. */
import type { Command } from 'commander';
import type { NodeFlags, OpenNode } from '../operations/context.ts';
import { checkLog, exportLog, verifyLogFile } from '../operations/verifyLog.ts';

/** @param openNode opens the node of the flags; closed again when the verb ends. `verify` opens none. */
export function registerAudit(program: Command, openNode: OpenNode): void {
  const audit = program.command('audit').description('the tamper-evident log: export, verify offline, check in place');

  nodeFlags(audit.command('export'))
    .description('write the whole log, with its signed checkpoint, to a text file')
    .requiredOption('--out <file>', 'where to; the file appears complete or not at all')
    .addHelpText(
      'after',
      `
Give an auditor the file, and by another way the verifier key that this prints. Keep its first line elsewhere: with it,
\`audit verify --checkpoint\` shows later that nothing before it was changed.

Examples:
  $ veilrisk audit export --out bank-a.log
  $ head -n 1 bank-a.log > january.checkpoint`,
    )
    .action(async (flags: NodeFlags & { out: string }) => {
      const context = await openNode(flags);
      try {
        const entries = await exportLog(context, flags.out);
        process.stdout.write(`${entries} entries written to ${flags.out}\n`);
        process.stdout.write(`verifier key: ${context.store.audit.verifierKey}\n`);
      } finally {
        await context.close();
      }
    });

  audit
    .command('verify')
    .description('verify an exported log: signature, every entry, order and number; needs no node and no network')
    .argument('<file>', 'a file that `audit export` wrote')
    .option('--key <vkey>', 'verifier key of the log, obtained from the node by another way')
    .option(
      '--checkpoint <file>',
      'an older export of the same log, its first line, or a signed note: nothing before it was changed',
    )
    .option('--json', 'print {origin, size, verified, root, verifierKey, keyFrom, consistentWith} as JSON')
    .addHelpText(
      'after',
      `
Ends with an error that names the first bad line when the log was changed, cut or reordered.

Examples:
  $ veilrisk audit verify bank-a.log
  $ veilrisk audit verify bank-a.log --key 'bank-a/audit+1a2b3c4d+AbC...' --checkpoint january.checkpoint`,
    )
    .action(async (path: string, flags: { key?: string; checkpoint?: string; json?: boolean }) => {
      const report = await verifyLogFile({ path, key: flags.key, checkpointPath: flags.checkpoint });
      if (flags.json) {
        process.stdout.write(`${JSON.stringify(report)}\n`);
        return;
      }
      const { origin, verified, root, verifierKey, keyFrom, consistentWith } = report;
      process.stdout.write(`${origin}: ${verified} entries verified\nroot ${root}\nkey  ${verifierKey}\n`);
      if (consistentWith !== null) {
        process.stdout.write(`The first ${consistentWith} entries are those of the older checkpoint.\n`);
      }
      if (keyFrom === 'file') {
        process.stdout.write(
          'The key was taken from the file itself: this shows that the file is whole, not who signed it. ' +
            'Give --key to show both.\n',
        );
      }
    });

  nodeFlags(audit.command('fsck'))
    .description('recompute the log from the rows in the database and compare the privacy ledger with it')
    .option('--json', 'print {origin, verifierKey, size, root, checkpoint} as JSON')
    .addHelpText(
      'after',
      `
Ends with an error that names the first bad index when a row was changed, removed, moved or added.

Example:
  $ veilrisk audit fsck --data-dir .veilrisk/node`,
    )
    .action(async (flags: NodeFlags & { json?: boolean }) => {
      const context = await openNode(flags);
      try {
        const report = await checkLog(context);
        if (flags.json) process.stdout.write(`${JSON.stringify(report)}\n`);
        else process.stdout.write(`${report.origin}: ${report.size} entries, root ${report.root}\n`);
      } finally {
        await context.close();
      }
    });
}

function nodeFlags(command: Command): Command {
  return command
    .option('--data-dir <dir>', 'where the node keeps its keys and its embedded database')
    .option('--database-url <url>', 'PostgreSQL server of the node, instead of the embedded one');
}
