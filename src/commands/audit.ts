/** `veilrisk audit`: take the log out, verify it anywhere, check it where it is. */
import type { Command } from 'commander';
import { compareFiles } from '../operations/compareCheckpoints.ts';
import type { NodeFlags, OpenNode } from '../operations/context.ts';
import { checkLog, exportLog, verifyLogFile, witnessKey } from '../operations/verifyLog.ts';
import { integerOption } from './options.ts';

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
\`audit verify --checkpoint\` shows later that nothing before it was changed. The witness key is the one this node
cosigns the aggregator's log with (\`audit verify --witness\`).

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
        process.stdout.write(`witness key of this node: ${witnessKey(context)}\n`);
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
    .option('--witness <vkey>', 'verifier key of a witness that must have cosigned; once for each', collected)
    .option('--witness-quorum <count>', 'how many of them must have (default: all)', integerOption)
    .option('--json', 'print {origin, size, verified, root, verifierKey, keyFrom, consistentWith, witnessed} as JSON')
    .addHelpText(
      'after',
      `
Ends with an error that names the first bad line when the log was changed, cut or reordered.

Examples:
  $ veilrisk audit verify bank-a.log
  $ veilrisk audit verify bank-a.log --key 'bank-a/audit+1a2b3c4d+AbC...' --checkpoint january.checkpoint
  $ veilrisk audit verify aggregator.log --key 'demo/aggregator/log+...' \\
      --witness 'bank-a/witness+...' --witness 'bank-b/witness+...' --witness 'bank-c/witness+...' --witness-quorum 2`,
    )
    .action(async (path: string, flags: VerifyFlags) => {
      const { key, checkpoint: checkpointPath, witness: witnessKeys, witnessQuorum } = flags;
      const report = await verifyLogFile({ path, key, checkpointPath, witnessKeys, witnessQuorum });
      if (flags.json) {
        process.stdout.write(`${JSON.stringify(report)}\n`);
        return;
      }
      const { origin, verified, root, verifierKey, keyFrom, consistentWith } = report;
      process.stdout.write(`${origin}: ${verified} entries verified\nroot ${root}\nkey  ${verifierKey}\n`);
      if (consistentWith !== null) {
        process.stdout.write(`The first ${consistentWith} entries are those of the older checkpoint.\n`);
      }
      const { witnessed } = report;
      if (witnessed !== null) {
        for (const { name, entries, time } of witnessed.by) {
          process.stdout.write(`${name} cosigned ${entries} entries at ${time}\n`);
        }
        const { quorum, entries } = witnessed;
        process.stdout.write(`The first ${entries} entries were seen by at least ${quorum} of these witnesses.\n`);
      }
      if (keyFrom === 'file') {
        process.stdout.write(
          'The key was taken from the file itself: this shows that the file is whole, not who signed it. ' +
            'Give --key to show both.\n',
        );
      }
    });

  nodeFlags(audit.command('witnessed'))
    .description("print the newest checkpoint this node has accepted of the aggregator's log")
    .option('--json', 'print [{origin, verifierKey, size, checkpoint}] as JSON')
    .addHelpText(
      'after',
      `
Give it to another bank: \`audit compare\` and \`audit verify --checkpoint\` show whether both were shown one log.

Example:
  $ veilrisk audit witnessed --data-dir .veilrisk/node > from-bank-a.checkpoint`,
    )
    .action(async (flags: NodeFlags & { json?: boolean }) => {
      const context = await openNode(flags);
      try {
        const heads = await context.store.witness.heads();
        if (flags.json) process.stdout.write(`${JSON.stringify(heads)}\n`);
        else for (const { checkpoint } of heads) process.stdout.write(checkpoint);
        if (heads.length === 0) process.stderr.write('This node has not been shown a log yet.\n');
      } finally {
        await context.close();
      }
    });

  audit
    .command('compare')
    .description('compare two checkpoints of one log that different readers were given')
    .argument('<a>', 'a signed note, an export or its first line; or, alone, the equivocation-*.json of a witness')
    .argument('[b]', 'another one')
    .option('--key <vkey>', 'verifier key of the log, obtained by another way; without it nothing is proven')
    .option('--json', 'print {origin, comparison, verified, a, b} as JSON')
    .addHelpText(
      'after',
      `
Two checkpoints of one size with different roots, both signed, prove that the log told two stories.

Exit codes: 0 equal, 3 undecided (different sizes), 4 equivocation, 1 a signature or file is wrong, 2 wrong usage.

Examples:
  $ veilrisk audit compare from-bank-a.checkpoint from-bank-b.checkpoint --key 'demo/aggregator/log+...'
  $ veilrisk audit compare .veilrisk/node/equivocation-1f0c77aa.json --key 'demo/aggregator/log+...'`,
    )
    .action(async (a: string, b: string | undefined, flags: { key?: string; json?: boolean }) => {
      const report = await compareFiles({ a, b, key: flags.key });
      process.exitCode = COMPARISON_EXIT[report.comparison];
      process.stdout.write(flags.json ? `${JSON.stringify(report)}\n` : comparisonText(report));
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

const COMPARISON_EXIT = { equal: 0, undecided: 3, equivocation: 4 } as const;

function comparisonText({ origin, comparison, verified, a, b }: Awaited<ReturnType<typeof compareFiles>>): string {
  const roots = `${origin}\n  ${a.size} entries, root ${a.root}\n  ${b.size} entries, root ${b.root}\n`;
  const said = {
    equal: 'The checkpoints are the same: both readers were shown one log up to there.\n',
    undecided:
      'The checkpoints have different sizes. To compare them, verify an export with the smaller one: ' +
      '`veilrisk audit verify FILE --checkpoint SMALLER`.\n',
    equivocation: verified
      ? 'PROOF OF EQUIVOCATION: the log signed two different roots of one size.\n'
      : 'The roots of one size differ. Give --key: without verified signatures this proves nothing.\n',
  };
  return roots + said[comparison];
}

interface VerifyFlags {
  key?: string;
  checkpoint?: string;
  witness?: string[];
  witnessQuorum?: number;
  json?: boolean;
}

const collected = (value: string, earlier: string[] = []): string[] => [...earlier, value];

function nodeFlags(command: Command): Command {
  return command
    .option('--data-dir <dir>', 'where the node keeps its keys and its embedded database')
    .option('--database-url <url>', 'PostgreSQL server of the node, instead of the embedded one');
}
