/**
 * Exports every bank's audit log, and the aggregator's, and checks them as an auditor would: offline, with nothing but the
 * file and the keys. The aggregator's has to be cosigned by a quorum of the banks.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { RequestError } from '../../errors.ts';
import { verifyLogFile } from '../verifyLog.ts';
import type { Consortium } from './consortium.ts';
import type { Supervisor } from './supervisor.ts';
import type { DemoView } from './view.ts';

export async function verifyLogs(options: {
  consortium: Consortium;
  supervisor: Supervisor;
  /** Where the exported logs are kept for the reader. */
  keepsakes: string;
  /** Banks that must have cosigned the aggregator's log. */
  quorum: number;
  view: DemoView;
}): Promise<{ entries: number; verified: number }> {
  const { consortium, supervisor, keepsakes, quorum, view } = options;
  const witnessKeys: string[] = [];
  const total = { entries: 0, verified: 0 };
  for (const { name, dataDir } of consortium.banks) {
    const file = join(keepsakes, `${name}.log`);
    const said = await supervisor.run(`${name}-export`, ['audit', 'export', '--data-dir', dataDir, '--out', file]);
    // The key comes from the bank and not from the file: a forged file would bring a key that fits it.
    const key = /^verifier key: (\S+)$/m.exec(said)?.[1];
    const witnessKey = /^witness key of this node: (\S+)$/m.exec(said)?.[1];
    if (key === undefined || witnessKey === undefined)
      throw new RequestError('INTERNAL', 'the export did not name its keys', { where: name });
    witnessKeys.push(witnessKey);
    await writeFile(join(keepsakes, `${name}.vkey`), `${key}\n`);
    const report = await verifyLogFile({ path: file, key });
    total.entries += report.size;
    total.verified += report.verified;
    view.note(`${name}: ${report.verified} of ${report.size} entries, root ${report.root.slice(0, 16)}…`);
  }
  const file = join(keepsakes, 'aggregator.log');
  const said = await supervisor.run('aggregator-export', [
    ...['aggregator', 'log', 'export', '--data-dir', join(consortium.workspace, 'aggregator'), '--out', file, '--json'],
  ]);
  // Safe: the output of `aggregator log export --json`.
  const { verifierKey } = JSON.parse(said) as { verifierKey: string };
  await writeFile(join(keepsakes, 'aggregator.vkey'), `${verifierKey}\n`);
  const report = await verifyLogFile({ path: file, key: verifierKey, witnessKeys, witnessQuorum: quorum });
  total.entries += report.size;
  total.verified += report.verified;
  view.note(
    `aggregator: ${report.verified} of ${report.size} entries (plans, rounds, sums, models), of which ` +
      `${report.witnessed?.entries ?? 0} are cosigned by at least ${quorum} banks`,
  );
  return total;
}
