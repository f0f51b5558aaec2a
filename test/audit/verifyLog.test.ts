import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { signCheckpoint } from '../../src/audit/checkpoint.ts';
import { parseWitnessKey, verifyCosignature, withSignatures } from '../../src/audit/cosignature.ts';
import { commit, type EntryDraft, entryBytes, MAX_ENTRY_BYTES } from '../../src/audit/entry.ts';
import { entryLine, headerLine, parseEntryLine } from '../../src/audit/exportFile.ts';
import { createLogSigner, type LogSigner } from '../../src/audit/note.ts';
import { CompactRange, leafHash } from '../../src/audit/tree.ts';
import { verifyLog } from '../../src/audit/verifyLog.ts';

const draft = (number: number): EntryDraft => ({
  type: 'decision',
  actor: 'api-key:abcd',
  outcome: number % 3 === 0 ? 'decline' : 'approve',
  details: { score: number, text: 'Zürich\u2028line' },
});
const TIME = new Date('2026-01-02T03:04:05.678Z');

let signer: LogSigner;
beforeAll(async () => {
  signer = await createLogSigner(
    'bank-a.example',
    (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair,
  );
});

async function exportOf(size: number, entry = (i: number) => entryBytes(draft(i), TIME)): Promise<string[]> {
  const range = CompactRange.empty();
  const lines = Array.from({ length: size }, (_, index) => {
    const bytes = entry(index);
    return entryLine({ index, bytes, node: range.append(leafHash(bytes)) });
  });
  const { origin, verifierKey } = signer;
  return [headerLine({ origin, verifierKey, checkpoint: await signCheckpoint(size, range.root(), signer) }), ...lines];
}

const checkpointOf = (lines: string[]): string => JSON.parse(lines[0]).checkpoint;
const failure = (lines: string[], options = {}) =>
  verifyLog(lines, options).then(
    () => null,
    (error) => error,
  );

describe('entries', () => {
  test('golden bytes', () => {
    // RFC 8785: keys sorted by UTF-16 code units, no blanks, shortest numbers.
    const entry = { type: 'a', actor: 'b', outcome: 'c', details: { z: 1, a: [1.5, 1e21, null] }, requestId: 'r' };
    expect(new TextDecoder().decode(entryBytes(entry, TIME))).toBe(
      '{"actor":"b","details":{"a":[1.5,1e+21,null],"z":1},"format":"veilrisk-entry/1","outcome":"c","requestId":"r",' +
        '"time":"2026-01-02T03:04:05.678Z","type":"a"}',
    );
  });

  test('an entry of exactly 65,535 bytes is accepted, one more is refused', () => {
    const base = entryBytes({ ...draft(1), details: { text: '' } }, TIME).length;
    const of = (bytes: number) => entryBytes({ ...draft(1), details: { text: 'x'.repeat(bytes - base) } }, TIME);
    expect(of(MAX_ENTRY_BYTES)).toHaveLength(MAX_ENTRY_BYTES);
    expect(() => of(MAX_ENTRY_BYTES + 1)).toThrow(expect.objectContaining({ code: 'AUDIT_ENTRY_INVALID' }));
  });

  test.each([
    ['NaN', { ...draft(1), details: { score: Number.NaN } }],
    ['Infinity', { ...draft(1), details: { score: Number.POSITIVE_INFINITY } }],
    ['a lone surrogate', { ...draft(1), details: { text: '\ud800' } }],
    ['an empty type', { ...draft(1), type: '' }],
    ['a short commitment', { ...draft(1), commitments: { record: 'abcd' } }],
  ])('%s is refused', (_, entry) => {
    expect(() => entryBytes(entry, TIME)).toThrow(expect.objectContaining({ code: 'AUDIT_ENTRY_INVALID' }));
  });

  test('a commitment is SHA-256(salt || value)', () => {
    // sha256 of 32 zero bytes followed by "abc", by coreutils: (head -c32 /dev/zero; printf abc) | sha256sum
    expect(commit(new Uint8Array(32), new TextEncoder().encode('abc'))).toBe(
      '365aa7d8f7f9402c4b9434502b4cc89ddb09fe50d7cd95b493b834c62d5a5370',
    );
    expect(() => commit(new Uint8Array(31), new Uint8Array())).toThrow();
  });
});

describe('verifyLog', () => {
  test.each([0, 1, 2, 3, 7, 8, 100, 257])('a whole log of %i entries verifies', async (size) => {
    const lines = await exportOf(size);
    const fromFile = await verifyLog(lines);
    expect(fromFile).toMatchObject({ entries: size, keyFrom: 'file', consistentWith: null });
    expect(await verifyLog(lines, { key: signer.verifierKey })).toMatchObject({ keyFrom: 'argument' });
  });

  test('every single-bit change of an entry line is found at its line or the next', async () => {
    const lines = await exportOf(6);
    for (let line = 1; line <= 6; line++) {
      const bytes = new TextEncoder().encode(lines[line]);
      for (let bit = 0; bit < bytes.length * 8; bit++) {
        const copy = bytes.slice();
        copy[bit >> 3] ^= 1 << (bit & 7);
        const changed = lines.with(line, new TextDecoder().decode(copy));
        const error = await failure(changed);
        expect(error).toMatchObject({
          code: expect.stringMatching(/^AUDIT_(LOG_TAMPERED|FILE_MALFORMED)$/),
          where: `line ${line + 1}`,
        });
      }
    }
  });

  test('removed, repeated, swapped, added and cut entries are found at the first bad line', async () => {
    const lines = await exportOf(9);
    const at = async (changed: string[]) => (await failure(changed))?.where;
    expect(await at(lines.toSpliced(4, 1))).toBe('line 5');
    expect(await at(lines.toSpliced(4, 0, lines[4]))).toBe('line 6');
    expect(await at(lines.with(3, lines[6]).with(6, lines[3]))).toBe('line 4');
    expect(await at([...lines, lines[9].replace(/^8 /, '9 ')])).toBe('line 11');
    expect(await at(lines.slice(0, -1))).toBe('after line 9');
    // Swapped under each other's number, each with its own hash: found where the subtree over them ends.
    const renumber = (line: string, index: number) => line.replace(/^\d+/, String(index));
    expect(await at(lines.with(3, renumber(lines[5], 2)).with(5, renumber(lines[3], 4)))).toBe('line 5');
  });

  test('an entry rewritten with all hashes after it is found by the signed root', async () => {
    const honest = await exportOf(9);
    const forged = await exportOf(9, (i) => entryBytes(draft(i === 4 ? 1000 : i), TIME));
    const error = await failure([honest[0], ...forged.slice(1)]);
    expect(error).toMatchObject({ code: 'AUDIT_LOG_TAMPERED', message: expect.stringContaining('signed root') });
  });

  test('an administrator who signs again is found by an older checkpoint kept elsewhere', async () => {
    const before = await exportOf(6);
    const grown = await exportOf(9);
    const forged = await exportOf(9, (i) => entryBytes(draft(i === 4 ? 1000 : i), TIME));
    const options = { key: signer.verifierKey, olderCheckpoint: checkpointOf(before) };
    expect(await verifyLog(grown, options)).toMatchObject({ entries: 9, consistentWith: 6 });
    await expect(verifyLog(forged)).resolves.toBeDefined();
    expect(await failure(forged, options)).toMatchObject({ code: 'AUDIT_LOG_TAMPERED', where: 'older checkpoint' });
    // Yesterday's backup restored: fewer entries than were signed for.
    expect(await failure(before, { olderCheckpoint: checkpointOf(grown) })).toMatchObject({
      code: 'AUDIT_LOG_TAMPERED',
    });
  });

  test('a log signed with another key does not pass under the pinned one', async () => {
    const lines = await exportOf(3);
    const other = await createLogSigner(
      'bank-a.example',
      (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair,
    );
    expect(await failure(lines, { key: other.verifierKey })).toMatchObject({ code: 'AUDIT_SIGNATURE_INVALID' });
  });

  test.each([
    ['an empty file', []],
    ['no JSON', ['hello']],
    ['another format', ['{"format":"x"}']],
    ['null', ['null']],
    ['missing fields', ['{"format":"veilrisk-audit-export/1"}']],
  ])('%s is refused as malformed', async (_, lines) => {
    expect(await failure(lines)).toMatchObject({ code: 'AUDIT_FILE_MALFORMED', where: 'line 1' });
  });

  test('an entry line survives the round trip', () => {
    const bytes = entryBytes(draft(3), TIME);
    const node = leafHash(bytes);
    expect(parseEntryLine(entryLine({ index: 7, node, bytes }), 9)).toEqual({ index: 7, node, bytes });
  });
});

describe('FORMAT.md', () => {
  const page = readFileSync(join(import.meta.dirname, '../../src/audit/FORMAT.md'), 'utf8');
  const example = /```text\n([\s\S]*?)\n```/.exec(page)![1].split('\n');
  const key = /Its verifier key: `(.*)`/.exec(page)![1];
  const sha256 = (...parts: (string | Buffer)[]) => {
    const hash = createHash('sha256');
    for (const part of parts) hash.update(part);
    return hash.digest();
  };

  test('the example verifies, and its checkpoint is the one shown above it', async () => {
    expect(await verifyLog(example, { key })).toMatchObject({ entries: 3, keyFrom: 'argument' });
    const shown = checkpointOf(example).trimEnd().split('\n');
    expect(page).toContain(shown.map((line) => (line === '' ? '' : `    ${line}`)).join('\n'));
  });

  test('its cosignature verifies over the checkpoint of the example', async () => {
    const line = /^ {4}(— bank-b\/witness .*)$/m.exec(page)![1];
    const witness = /as a witness: `(.*)`/.exec(page)![1];
    const checkpoint = checkpointOf(example);
    expect(await verifyCosignature(checkpoint, line, parseWitnessKey(witness))).toBe(1_767_225_600);
    const header = JSON.stringify({ ...JSON.parse(example[0]), checkpoint: withSignatures(checkpoint, [line]) });
    const witnesses = { keys: [witness], quorum: 1 };
    const report = await verifyLog([header, ...example.slice(1)], { key, witnesses });
    expect(report.witnessed).toEqual({
      ...{ entries: 3, quorum: 1 },
      by: [{ name: 'bank-b/witness', time: 1_767_225_600, entries: 3 }],
    });
    await expect(verifyLog(example, { key, witnesses })).rejects.toMatchObject({ code: 'AUDIT_SIGNATURE_INVALID' });
  });

  test('a witnessed checkpoint that is not of this log, or of more than there is, is found', async () => {
    const long = await exportOf(9);
    const header = JSON.parse(long[0]);
    const other = checkpointOf(await exportOf(5, (i) => entryBytes(draft(i + 1), TIME)));
    const longer = checkpointOf(await exportOf(12));
    const ours = checkpointOf(await exportOf(5));
    const withNotes = (witnessed: unknown) => [JSON.stringify({ ...header, witnessed }), ...long.slice(1)];
    expect(await failure(withNotes([ours]))).toBeNull();
    expect(await failure(withNotes([ours, other]))).toMatchObject({
      ...{ code: 'AUDIT_LOG_TAMPERED', where: 'witnessed checkpoint' },
    });
    expect(await failure(withNotes([longer]))).toMatchObject({ code: 'AUDIT_LOG_TAMPERED' });
    expect(await failure(withNotes('no list'))).toMatchObject({ code: 'AUDIT_FILE_MALFORMED' });
    expect(await failure(withNotes([checkpointOf(example)]))).toMatchObject({ code: 'AUDIT_SIGNATURE_INVALID' });
  });

  test('its hashes are those that the page describes, computed without our code', () => {
    const leaf = (at: number) => sha256(Buffer.of(0), example[at + 1].split(' ').slice(2).join(' '));
    const left = sha256(Buffer.of(1), leaf(0), leaf(1));
    const shown = example.slice(1).map((line) => line.split(' ')[1]);
    expect(shown).toEqual([leaf(0), left, leaf(2)].map((hash) => hash.toString('hex')));
    const root = sha256(Buffer.of(1), left, leaf(2)).toString('base64');
    expect(checkpointOf(example).split('\n')[2]).toBe(root);
  });
});
