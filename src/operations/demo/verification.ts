/** Exports every bank's audit log and checks it as an auditor would: offline, with nothing but the file and the key. */
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
  view: DemoView;
}): Promise<{ entries: number; verified: number }> {
  const { consortium, supervisor, keepsakes, view } = options;
  const total = { entries: 0, verified: 0 };
  for (const { name, dataDir } of consortium.banks) {
    const file = join(keepsakes, `${name}.log`);
    const said = await supervisor.run(`${name}-export`, ['audit', 'export', '--data-dir', dataDir, '--out', file]);
    // The key comes from the bank and not from the file: a forged file would bring a key that fits it.
    const key = /^verifier key: (\S+)$/m.exec(said)?.[1];
    if (key === undefined)
      throw new RequestError('INTERNAL', 'the export did not name its verifier key', { where: name });
    await writeFile(join(keepsakes, `${name}.vkey`), `${key}\n`);
    const report = await verifyLogFile({ path: file, key });
    total.entries += report.size;
    total.verified += report.verified;
    view.note(`${name}: ${report.verified} of ${report.size} entries, root ${report.root.slice(0, 16)}…`);
  }
  return total;
}
