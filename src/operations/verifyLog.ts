/**
 * The audit log as a file: export it from a node, and verify it offline, with neither database nor network.
 */
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { siteWitnessName } from '../../federated/protocol/logNames.ts';
import { bytesToHex } from '../audit/bytes.ts';
import { encodeWitnessKey } from '../audit/cosignature.ts';
import { checkpointOf } from '../audit/exportFile.ts';
import { verifyLog } from '../audit/verifyLog.ts';
import { AuditError, RequestError } from '../errors.ts';
import type { NodeContext } from './context.ts';

export interface VerifyLogOptions {
  /** An export, as `exportLog` writes it. */
  path: string;
  /** Verifier key obtained from the node by another way; without it the file's own key is used. */
  key?: string | undefined;
  /** File with an older checkpoint of the same log: a signed note, the first line of an export, or a whole export. */
  checkpointPath?: string | undefined;
  /** Verifier keys of witnesses, and how many of them must have cosigned; default all. */
  witnessKeys?: readonly string[] | undefined;
  witnessQuorum?: number | undefined;
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
  /** What the witnesses cover, if they were asked for. */
  witnessed: { entries: number; quorum: number; by: { name: string; entries: number; time: string }[] } | null;
}

// A canonical entry has at most 65,535 bytes, its line some 90 more.
const MAX_LINE_BYTES = 1 << 17;
// A note is short: three lines and a line for each signature.
const MAX_HEADER_BYTES = 1 << 20;
const NEWLINE = 0x0a;

/** @throws AuditError naming the first bad line. */
export async function verifyLogFile(options: VerifyLogOptions): Promise<VerifiedLog> {
  const { path, key, checkpointPath, witnessKeys: keys = [] } = options;
  const quorum = options.witnessQuorum ?? keys.length;
  if (quorum > keys.length) {
    throw new RequestError('USAGE', 'there are fewer witnesses than the quorum', {
      where: '--witness-quorum',
      fix: 'give the verifier key of each witness with --witness',
    });
  }
  const olderCheckpoint = checkpointPath === undefined ? undefined : await readCheckpoint(checkpointPath);
  const report = await verifyLog(linesOf(path), {
    ...(key !== undefined && { key }),
    ...(olderCheckpoint !== undefined && { olderCheckpoint }),
    ...(keys.length > 0 && { witnesses: { keys, quorum } }),
  });
  const { origin, entries, root, verifierKey, keyFrom, consistentWith } = report;
  const dated = ({ time, ...rest }: { name: string; time: number; entries: number }) => ({
    ...rest,
    time: new Date(time * 1_000).toISOString(),
  });
  const witnessed = report.witnessed === null ? null : { ...report.witnessed, by: report.witnessed.by.map(dated) };
  return {
    ...{ origin, size: entries, verified: entries, root: bytesToHex(root), verifierKey, keyFrom, consistentWith },
    witnessed,
  };
}

/** Writes the whole log to `path`; the file appears complete or not at all. Returns the number of entries. */
export function exportLog({ store }: Pick<NodeContext, 'store'>, path: string): Promise<number> {
  return store.audit.exportTo(path);
}

/** The key this node cosigns other logs with; who verifies them asks for it here. */
export function witnessKey({ name, identity }: Pick<NodeContext, 'name' | 'identity'>): string {
  return encodeWitnessKey(siteWitnessName(name), Buffer.from(identity.publicKey, 'base64'));
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
    throw unreadable(path, cause);
  }
  if (restBytes > 0) throw malformed('The last line is cut off: the file was truncated.', number + 1);
}

/** The checkpoint in the first line or the whole of a file, of which an export may be too large to be read. */
export async function readCheckpoint(path: string): Promise<string> {
  const start = await readStart(path);
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

/** As much of a file as any note or first line has. @throws AuditError AUDIT_FILE_MALFORMED. */
export async function readStart(path: string): Promise<string> {
  try {
    const file = await open(path, 'r');
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_HEADER_BYTES), 0, MAX_HEADER_BYTES, 0);
      return buffer.toString('utf8', 0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (cause) {
    throw unreadable(path, cause);
  }
}

function malformed(message: string, line: number, cause?: unknown): AuditError {
  return new AuditError('AUDIT_FILE_MALFORMED', message, {
    where: `line ${line}`,
    fix: 'Export the log again and keep the file byte for byte.',
    cause,
  });
}

function unreadable(path: string, cause: unknown): AuditError {
  return new AuditError('AUDIT_FILE_MALFORMED', 'The file cannot be read.', {
    where: path,
    fix: 'Check the path and its permissions.',
    cause,
  });
}
