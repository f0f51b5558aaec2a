/** `veilrisk import`: reads a CSV file through a contract into a data set of the node. */
import { SingleBar } from 'cli-progress';
import type { Command } from 'commander';
import type { NodeFlags, OpenNode } from '../operations/context.ts';
import { readContract } from '../operations/contracts.ts';
import { type ImportReport, importRecords, REJECTS_SHOWN } from '../operations/importRecords.ts';
import { fileBytes } from '../operations/readRows.ts';

interface ImportFlags extends NodeFlags {
  contract: string;
  data: string;
  dataset?: string;
  rejects?: string;
  disjoint?: boolean;
  json?: boolean;
}

export function registerImport(program: Command, openNode: OpenNode): void {
  program
    .command('import')
    .description('read a CSV file through a contract into a data set of this node; all of it or nothing')
    .requiredOption('--contract <contract>', 'contract file, or the name of a published contract')
    .requiredOption('--data <file>', 'CSV file, plain or gzip')
    .option('--dataset <name>', "data set to add to, created when new (default: the contract's name)")
    .option('--rejects <file>', 'write every rejected row here, as JSON lines: line, field and rule')
    .option('--disjoint', 'the customers of this file are in no other file of the data set (see below)')
    .option('--data-dir <dir>', 'where `node init` put the keys')
    .option('--database-url <url>', 'PostgreSQL to use instead of the embedded one (better: environment DATABASE_URL)')
    .option('--json', 'print the report as JSON')
    .addHelpText(
      'after',
      `
Rows that break the contract are left out and reported by line, field and rule. A file of which less than half fits is
refused. A file that was imported before, compressed or not, changes nothing.

A contract whose "subject" is null names no customer: every record counts as a customer of its own. A second file then
needs --disjoint, by which you state that no customer is in both files: one who is would count twice while the privacy
ledger charges for one. The audit log records the statement.

Examples:
  $ veilrisk import --contract demo-transactions --data synthetic-a.csv
  $ veilrisk import --contract contracts/taiwan.json --data taiwan.csv.gz --dataset clients-2005 --rejects bad.jsonl
  $ veilrisk import --contract adult --data adult.test.gz --disjoint`,
    )
    .action(async ({ contract, data, dataset, rejects, disjoint, json, ...node }: ImportFlags) => {
      const contractFile = await readContract(contract);
      const total = await fileBytes(data);
      const context = await openNode(node);
      const bar = new SingleBar({
        format: 'importing  {bar}  {percentage} %  {eta_formatted} left',
        barsize: 30,
        hideCursor: true,
        stream: process.stderr,
      });
      try {
        bar.start(total, 0);
        const report = await importRecords(context, {
          contractFile,
          path: data,
          ...(dataset !== undefined && { dataset }),
          ...(rejects !== undefined && { rejectsPath: rejects }),
          ...(disjoint !== undefined && { disjoint }),
          onProgress: (bytes) => bar.update(bytes),
        }).finally(() => bar.stop());
        process.stdout.write(json ? `${JSON.stringify(report)}\n` : describe(report, rejects));
      } finally {
        await context.close();
      }
    });
}

function describe(report: ImportReport, rejects?: string): string {
  const count = (value: number) => value.toLocaleString('en-US');
  const lines: string[] = [];
  if (report.rejected > 0 && report.firstRejects.length > 0) {
    const which = report.rejected > REJECTS_SHOWN ? `the first ${REJECTS_SHOWN} of ${count(report.rejected)}` : 'all';
    const where = rejects === undefined ? '--rejects FILE writes all' : `all in ${rejects}`;
    lines.push(`rejected rows, ${which} (${where}):`);
    for (const { line, issues } of report.firstRejects) {
      for (const { field, rule } of issues) lines.push(`  line ${line}: ${field}: ${rule}`);
    }
    lines.push('');
  }
  const synthetic = report.contract.synthetic ? ' (SYNTHETIC data)' : '';
  lines.push(
    report.alreadyImported
      ? `already imported: data set ${report.dataset} holds this file's content; nothing was changed`
      : `imported into data set ${report.dataset}${synthetic}`,
    `contract  ${report.contract.name} ${report.contract.hash}`,
    `content   SHA-256 ${report.fileSha256}`,
    `rows      ${count(report.read)} read, ${count(report.accepted)} accepted, ${count(report.rejected)} rejected`,
  );
  if (report.positive !== null) lines.push(`label     ${count(report.positive)} positive`);
  const fields = Object.entries(report.clampedByField).map(([field, cells]) => `${field} ${count(cells)}`);
  lines.push(
    `clamped   ${count(report.clamped)} ${report.clamped === 1 ? 'cell' : 'cells'} outside their bounds${fields.length > 0 ? `: ${fields.join(', ')}` : ''}`,
  );
  if (report.auditIndex !== null) lines.push(`audit     entry ${report.auditIndex}`);
  return `${lines.join('\n')}\n`;
}
