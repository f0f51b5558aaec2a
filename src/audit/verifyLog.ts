/**
 * Verification of a whole log: every leaf and the root are recomputed and compared with what the log signed.
 *
 * What it shows: the entries are exactly those the signed checkpoint covers, in that order; with an older checkpoint
 * that was kept elsewhere, also that none of the entries covered then was changed or removed since. What it does not
 * show: that the log told everyone the same story (compare checkpoints), or that an entry is true.
 */
import { AuditError } from '../errors.ts';
import { bytesToHex, equalBytes } from './bytes.ts';
import { type Checkpoint, parseCheckpoint, verifyCheckpoint } from './checkpoint.ts';
import { type Cosigned, parseWitnessKey, verifyWitnesses } from './cosignature.ts';
import { type ExportedEntry, type ExportHeader, parseEntryLine, parseHeader } from './exportFile.ts';
import { parseVerifierKey } from './note.ts';
import { CompactRange, leafHash } from './tree.ts';

export interface VerifyOptions {
  /** Verifier key obtained from the node by another way. Without it the key is taken from the file itself. */
  key?: string;
  /** A checkpoint of the same log that was kept elsewhere. */
  olderCheckpoint?: string;
  /** Verifier keys of witnesses, obtained from them, and how many of them must have cosigned. */
  witnesses?: { keys: readonly string[]; quorum: number };
}

export interface WitnessedLog {
  /** That many entries are covered by cosignatures of at least `quorum` of the witnesses. */
  entries: number;
  quorum: number;
  /** Each witness's newest cosignature of this log, and the entries that covers. */
  by: readonly (Cosigned & { entries: number })[];
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
  /** Null unless witnesses were asked for. */
  witnessed: WitnessedLog | null;
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
  let witnessed: WitnessedLog | null = null;
  let number = 0;
  for await (const line of lines) {
    number++;
    if (checker === undefined) {
      header = parseHeader(line);
      ({ checkpoint, checker, witnessed } = await openCheckpoints(header, options));
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
    witnessed,
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
  const witnessed: Checkpoint[] = [];
  for (const note of header.witnessed) witnessed.push(await verifyCheckpoint(note, key));
  return {
    checkpoint,
    checker: new RangeChecker(checkpoint, older, witnessed),
    witnessed: options.witnesses === undefined ? null : await countWitnesses(header, options.witnesses),
  };
}

/** Whose cosignatures stand under the notes of the header; those are compared with the entries by the checker. */
async function countWitnesses(
  { checkpoint, witnessed }: ExportHeader,
  { keys, quorum }: { keys: readonly string[]; quorum: number },
): Promise<WitnessedLog> {
  const newest = new Map<string, Cosigned & { entries: number }>();
  for (const text of keys) {
    const key = parseWitnessKey(text);
    for (const note of [checkpoint, ...witnessed]) {
      const entries = parseCheckpoint(note).size;
      const owner = bytesToHex(key.publicKey);
      for (const cosigned of await verifyWitnesses(note, [key], 0)) {
        if (entries >= (newest.get(owner)?.entries ?? 0)) newest.set(owner, { ...cosigned, entries });
      }
    }
  }
  const by = [...newest.values()].sort((a, b) => b.entries - a.entries);
  if (by.length < quorum) {
    throw new AuditError('AUDIT_SIGNATURE_INVALID', `${by.length} of the ${quorum} witnesses required cosigned it.`, {
      where: 'witness quorum',
      fix: 'Export the log again once more witnesses have seen it, or compare their keys with those they give.',
    });
  }
  // A witness of more entries has seen that they continue the fewer.
  return { entries: quorum === 0 ? 0 : by[quorum - 1].entries, quorum, by };
}

/** Compares entries, in order, with the hashes that stand beside them and with the signed roots there are. */
export class RangeChecker {
  readonly older: Checkpoint | null;
  readonly #checkpoint: Checkpoint;
  readonly #earlier: { size: number; root: Uint8Array; name: string }[];
  readonly #range = CompactRange.empty();

  constructor(checkpoint: Checkpoint, older: Checkpoint | null = null, witnessed: readonly Checkpoint[] = []) {
    this.#checkpoint = checkpoint;
    this.older = older;
    this.#earlier = witnessed.map(({ size, root }) => ({ size, root, name: 'witnessed checkpoint' }));
    if (older !== null) this.#earlier.push({ size: older.size, root: older.root, name: 'older checkpoint' });
    for (const { size } of this.#earlier) {
      if (size > checkpoint.size) {
        throw tampered(`the log had ${size} entries and now has ${checkpoint.size}`, 'checkpoint');
      }
    }
    this.#checkEarlier();
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
    this.#checkEarlier();
  }

  /** @throws AuditError AUDIT_LOG_TAMPERED unless exactly the signed entries were added. */
  finish(where: string): void {
    const { size, root } = this.#checkpoint;
    if (this.#range.size < size) throw tampered(`entry ${this.#range.size} of ${size} is missing`, where);
    if (equalBytes(this.#range.root(), root)) return;
    const from = this.older === null ? '' : ` at or after entry ${this.older.size}`;
    throw tampered(`entries were changed together with their hashes${from}: the signed root is another`, where);
  }

  #checkEarlier(): void {
    for (const { size, root, name } of this.#earlier) {
      if (this.#range.size !== size || equalBytes(this.#range.root(), root)) continue;
      throw tampered(`an entry before ${size} was changed since the ${name}`, name);
    }
  }
}

function tampered(what: string, where: string): AuditError {
  return new AuditError('AUDIT_LOG_TAMPERED', `The log does not verify: ${what}.`, {
    where,
    fix: 'Keep this copy as evidence and compare it with a checkpoint or an export that was made earlier.',
  });
}
