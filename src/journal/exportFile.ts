/**
 * Writing an export (audit/FORMAT.md, "Export file") so that it appears complete or not at all.
 */
import { open, rename, rm } from 'node:fs/promises';
import { AuditError } from '../errors.ts';

const WRITE_BYTES = 1 << 16;

/** Writes lines, each ended by a newline, and returns how many. @throws AuditError AUDIT_FILE_MALFORMED. */
export async function writeExport(path: string, lines: AsyncIterable<string>): Promise<number> {
  const partial = `${path}.partial-${process.pid}`;
  const file = await open(partial, 'w', 0o600).catch((cause) => {
    throw new AuditError('AUDIT_FILE_MALFORMED', 'The file cannot be written.', {
      where: path,
      fix: 'Check the path and its permissions.',
      cause,
    });
  });
  let count = 0;
  try {
    let waiting = '';
    for await (const line of lines) {
      waiting += `${line}\n`;
      count++;
      if (waiting.length < WRITE_BYTES) continue;
      await file.write(waiting);
      waiting = '';
    }
    await file.write(waiting);
    await file.sync();
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  } finally {
    await file.close();
  }
  await rename(partial, path);
  return count;
}
