/**
 * The audit log as a file: export it from a node, and verify it offline, with neither database nor network.
 */
import { createReadStream } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { bytesToHex } from '../audit/bytes.ts';
import { checkpointOf } from '../audit/exportFile.ts';
import { verifyLog } from '../audit/verifyLog.ts';
import { AuditError } from '../errors.ts';
import type { NodeContext } from './context.ts';

export interface VerifyLogOptions {
  /** An export, as `exportLog` writes it. */
  path: string;
  /** Verifier key obtained from the node by another way; without it the file's own key is used. */
  key?: string | undefined;
  /** File with an older checkpoint of the same log: a signed note, the first line of an export, or a whole export. */
  checkpointPath?: string | undefined;
}

export interface VerifiedLog {
  origin: string;
  /** Entries the signed checkpoint covers. */
  size: number;
  /** Entries recomputed; equal to `size`, or this was not returned. */
  verified: number;
  /** Hex. */
  root: string;
  verifierKey: string;
  keyFrom: 'argument' | 'file';
  /** Size of the older checkpoint, if one was given. */
  consistentWith: number | null;
}

// A canonical entry has at most 65,535 bytes, its line some 90 more.
const MAX_LINE_BYTES = 1 << 17;
// A note is short: three lines and a line for each signature.
const MAX_HEADER_BYTES = 1 << 20;
const WRITE_BYTES = 1 << 16;
const NEWLINE = 0x0a;

/** @throws AuditError naming the first bad line. */
export async function verifyLogFile({ path, key, checkpointPath }: VerifyLogOptions): Promise<VerifiedLog> {
  const olderCheckpoint = checkpointPath === undefined ? undefined : await readCheckpoint(checkpointPath);
  const report = await verifyLog(linesOf(path), {
    ...(key !== undefined && { key }),
    ...(olderCheckpoint !== undefined && { olderCheckpoint }),
  });
  const { origin, entries, root, verifierKey, keyFrom, consistentWith } = report;
  return { origin, size: entries, verified: entries, root: bytesToHex(root), verifierKey, keyFrom, consistentWith };
}

/** Writes the whole log to `path`; the file appears complete or not at all. Returns the number of entries. */
export async function exportLog({ store }: Pick<NodeContext, 'store'>, path: string): Promise<number> {
  const partial = `${path}.partial-${process.pid}`;
  const file = await open(partial, 'w', 0o600).catch((cause) => {
    throw unreadable(path, 'written', cause);
  });
  let lines = 0;
  try {
    let waiting = '';
    for await (const line of store.audit.exportLines()) {
      waiting += `${line}\n`;
      lines++;
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
  return lines - 1;
}

/** Recomputes the log from the rows in the database. @throws AuditError AUDIT_LOG_TAMPERED, `where` the first bad index. */
export async function checkLog({ store }: Pick<NodeContext, 'store'>) {
  const { size, root, checkpoint } = await store.audit.fsck();
  await store.audit.ledgerAgreesWithLog();
  return { origin: store.audit.origin, verifierKey: store.audit.verifierKey, size, root: bytesToHex(root), checkpoint };
}

/**
 * Lines of a UTF-8 file, split at newlines only: entries may hold other line separators of Unicode, at which Node's
 * readline splits as well.
 */
async function* linesOf(path: string): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  let rest: Buffer[] = [];
  let restBytes = 0;
  let number = 0;
  const decode = (line: Uint8Array): string => {
    number++;
    try {
      return decoder.decode(line);
    } catch (cause) {
      throw malformed('The line is not UTF-8.', number, cause);
    }
  };
  const stream: AsyncIterable<Buffer> = createReadStream(path, { highWaterMark: 1 << 18 });
  try {
    for await (const chunk of stream) {
      let from = 0;
      for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
        const piece = chunk.subarray(from, end);
        yield decode(rest.length === 0 ? piece : Buffer.concat([...rest, piece]));
        rest = [];
        restBytes = 0;
        from = end + 1;
      }
      if (from < chunk.length) rest.push(chunk.subarray(from));
      restBytes += chunk.length - from;
      if (restBytes > MAX_LINE_BYTES) throw malformed('The line is longer than any entry can be.', number + 1);
    }
  } catch (cause) {
    if (cause instanceof AuditError) throw cause;
    throw unreadable(path, 'read', cause);
  }
  if (restBytes > 0) throw malformed('The last line is cut off: the file was truncated.', number + 1);
}

/** The checkpoint in the first line or the whole of a file, of which an export may be too large to be read. */
async function readCheckpoint(path: string): Promise<string> {
  let start: string;
  try {
    const file = await open(path, 'r');
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_HEADER_BYTES), 0, MAX_HEADER_BYTES, 0);
      start = buffer.toString('utf8', 0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (cause) {
    throw unreadable(path, 'read', cause);
  }
  try {
    return checkpointOf(start);
  } catch (cause) {
    throw new AuditError('AUDIT_FILE_MALFORMED', 'The file holds no checkpoint.', {
      where: path,
      fix: 'Give a signed note, or an export of the log (its first line is enough).',
      cause,
    });
  }
}

function malformed(message: string, line: number, cause?: unknown): AuditError {
  return new AuditError('AUDIT_FILE_MALFORMED', message, {
    where: `line ${line}`,
    fix: 'Export the log again and keep the file byte for byte.',
    cause,
  });
}

function unreadable(path: string, verb: string, cause: unknown): AuditError {
  return new AuditError('AUDIT_FILE_MALFORMED', `The file cannot be ${verb}.`, {
    where: path,
    fix: 'Check the path and its permissions.',
    cause,
  });
}
