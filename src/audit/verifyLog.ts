/**
 * Verification of a whole log: every leaf and the root are recomputed and compared with what the log signed.
 *
 * What it shows: the entries are exactly those the signed checkpoint covers, in that order; with an older checkpoint
 * that was kept elsewhere, also that none of the entries covered then was changed or removed since. What it does not
 * show: that the log told everyone the same story (compare checkpoints), or that an entry is true.
 */
import { AuditError } from '../errors.ts';
import { equalBytes } from './bytes.ts';
import { type Checkpoint, verifyCheckpoint } from './checkpoint.ts';
import { type ExportedEntry, type ExportHeader, parseEntryLine, parseHeader } from './exportFile.ts';
import { parseVerifierKey } from './note.ts';
import { CompactRange, leafHash } from './tree.ts';

export interface VerifyOptions {
  /** Verifier key obtained from the node by another way. Without it the key is taken from the file itself. */
  key?: string;
  /** A checkpoint of the same log that was kept elsewhere. */
  olderCheckpoint?: string;
}

export interface LogReport {
  origin: string;
  entries: number;
  /** 32 bytes. */
  root: Uint8Array;
  /** `file`: whoever made the file also chose the key, so nothing is shown about who signed. */
  keyFrom: 'argument' | 'file';
  verifierKey: string;
  /** Size of the older checkpoint the log is consistent with, or null. */
  consistentWith: number | null;
}

/**
 * Verifies an export, line by line in constant memory.
 * @param lines without their newlines.
 * @throws AuditError naming the first bad line: AUDIT_FILE_MALFORMED, AUDIT_LOG_TAMPERED, AUDIT_SIGNATURE_INVALID,
 *   AUDIT_NOTE_MALFORMED.
 */
export async function verifyLog(
  lines: AsyncIterable<string> | Iterable<string>,
  options: VerifyOptions = {},
): Promise<LogReport> {
  let header: ExportHeader | undefined;
  let checkpoint: Checkpoint | undefined;
  let checker: RangeChecker | undefined;
  let number = 0;
  for await (const line of lines) {
    number++;
    if (checker === undefined) {
      header = parseHeader(line);
      ({ checkpoint, checker } = await openCheckpoints(header, options));
      continue;
    }
    checker.add(parseEntryLine(line, number), `line ${number}`);
  }
  if (header === undefined || checkpoint === undefined || checker === undefined) {
    throw new AuditError('AUDIT_FILE_MALFORMED', 'The file is empty.', { where: 'line 1' });
  }
  checker.finish(`after line ${number}`);
  return {
    origin: header.origin,
    entries: checkpoint.size,
    root: checkpoint.root,
    keyFrom: options.key === undefined ? 'file' : 'argument',
    verifierKey: options.key ?? header.verifierKey,
    consistentWith: checker.older?.size ?? null,
  };
}

async function openCheckpoints(header: ExportHeader, options: VerifyOptions) {
  const key = parseVerifierKey(options.key ?? header.verifierKey);
  const checkpoint = await verifyCheckpoint(header.checkpoint, key);
  if (header.origin !== checkpoint.origin || parseVerifierKey(header.verifierKey).name !== header.origin) {
    throw new AuditError('AUDIT_FILE_MALFORMED', 'The first line names another log than its checkpoint.', {
      where: 'line 1',
    });
  }
  const older = options.olderCheckpoint === undefined ? null : await verifyCheckpoint(options.olderCheckpoint, key);
  return { checkpoint, checker: new RangeChecker(checkpoint, older) };
}

/** Compares entries, in order, with the hashes that stand beside them and with one or two signed roots. */
export class RangeChecker {
  readonly older: Checkpoint | null;
  readonly #checkpoint: Checkpoint;
  readonly #range = CompactRange.empty();

  constructor(checkpoint: Checkpoint, older: Checkpoint | null = null) {
    this.#checkpoint = checkpoint;
    this.older = older;
    if (older !== null && older.size > checkpoint.size) {
      throw tampered(`the log had ${older.size} entries and now has ${checkpoint.size}`, 'checkpoint');
    }
    this.#checkOlder();
  }

  /** @throws AuditError AUDIT_LOG_TAMPERED at the first entry that does not fit. */
  add({ index, node, bytes }: ExportedEntry, where: string): void {
    const expected = this.#range.size;
    if (index > expected) throw tampered(`entry ${expected} is missing`, where);
    if (index < expected) throw tampered(`entry ${index} is there twice or out of order`, where);
    if (index >= this.#checkpoint.size) throw tampered(`entry ${index} is not covered by the checkpoint`, where);
    const computed = this.#range.append(leafHash(bytes));
    if (!equalBytes(computed, node)) {
      // At an odd index the hash also covers the entries before, whose own hashes may have been changed along.
      const suspects = index % 2 === 0 ? `entry ${index}` : `entry ${index} or ${index - 1}`;
      throw tampered(`${suspects} was changed`, where);
    }
    this.#checkOlder();
  }

  /** @throws AuditError AUDIT_LOG_TAMPERED unless exactly the signed entries were added. */
  finish(where: string): void {
    const { size, root } = this.#checkpoint;
    if (this.#range.size < size) throw tampered(`entry ${this.#range.size} of ${size} is missing`, where);
    if (equalBytes(this.#range.root(), root)) return;
    const from = this.older === null ? '' : ` at or after entry ${this.older.size}`;
    throw tampered(`entries were changed together with their hashes${from}: the signed root is another`, where);
  }

  #checkOlder(): void {
    if (this.older === null || this.#range.size !== this.older.size) return;
    if (equalBytes(this.#range.root(), this.older.root)) return;
    throw tampered(`an entry before ${this.older.size} was changed since the older checkpoint`, 'older checkpoint');
  }
}

function tampered(what: string, where: string): AuditError {
  return new AuditError('AUDIT_LOG_TAMPERED', `The log does not verify: ${what}.`, {
    where,
    fix: 'Keep this copy as evidence and compare it with a checkpoint or an export that was made earlier.',
  });
}
