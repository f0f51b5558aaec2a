import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { parseContract } from '../../src/contract/contract.ts';
import { ContractError } from '../../src/errors.ts';
import { emptyTally, recordsOf } from '../../src/operations/importRecords.ts';
import { fingerprintFile, readRows } from '../../src/operations/readRows.ts';
import { simulateToFile } from '../../src/operations/simulate.ts';
import { subjectTags } from '../../src/operations/subjectTag.ts';
import type { NewRecord } from '../../src/store/records.ts';
import { exampleDocument } from '../contract/example.ts';

const contract = parseContract(exampleDocument());
const header = 'customer,when,income,debt,purpose,employed,default';
const rows = [
  'c1,2025-01-06T09:30:00Z,60,999,home,no,1',
  'c2,,10,5,car,yes,0',
  '"c,3",2025-01-07T00:00:00Z,500,,boat,TRUE,0',
];
const good = `${header}\n${rows.join('\n')}\n`;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veilrisk-test-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function file(content: string | Uint8Array): Promise<string> {
  const path = join(folder, 'rows.csv');
  await writeFile(path, content);
  return path;
}

/** Lines of accepted rows, and `line: field` of each issue. */
async function outline(content: string | Uint8Array): Promise<(number | string)[]> {
  const out: (number | string)[] = [];
  for await (const row of readRows(contract, await file(content))) {
    if ('issues' in row) out.push(...row.issues.map(({ field }) => `${row.line}: ${field}`));
    else out.push(row.line);
  }
  return out;
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return error instanceof ContractError ? error.code : String(error);
  }
  return 'none';
}

describe('a file is read', () => {
  test.each([
    ['as it is', good],
    ['without its last line end', good.trimEnd()],
    ['with Windows line ends', good.replaceAll('\n', '\r\n')],
    ['with a byte order mark', `\ufeff${good}`],
  ])('%s', async (_name, content) => {
    expect(await outline(content)).toEqual([2, 3, 4]);
  });

  test('compressed, whatever its name', async () => {
    expect(await outline(gzipSync(good))).toEqual([2, 3, 4]);
  });

  test('past blank lines, with the number of the line', async () => {
    expect(await outline(good.replace('c2,', '\n\nc2,'))).toEqual([2, 5, 6]);
  });

  test('past bad rows, each with line and field', async () => {
    expect(await outline(good.replace('60', 'NaN').replace('yes', 'maybe'))).toEqual(['2: income', '3: employed', 4]);
    expect(await outline(good.replace('c2,', ''))).toEqual([2, '3: (row)', 4]);
    expect((await outline(good.replace('c2', 'c"2'))).sort()).toEqual([2, '3: (row)', 4].sort());
  });

  test('with its progress in stored bytes', async () => {
    let reached = 0;
    for await (const _ of readRows(contract, await file(good), (bytes) => (reached = bytes)));
    expect(reached).toBe(good.length);
  });
});

describe('a file is refused', () => {
  const compressed = gzipSync(good.repeat(1));
  const damaged = Uint8Array.from(compressed);
  damaged[30] ^= 0xff;
  test.each([
    ['cut in a row', good.slice(0, -12), 'FILE_TRUNCATED'],
    ['cut in a quoted cell', `${good}"c4`, 'FILE_TRUNCATED'],
    ['cut in its compression', compressed.subarray(0, compressed.length - 12), 'FILE_TRUNCATED'],
    ['damaged in its compression', damaged, 'FILE_UNREADABLE'],
    ['without a column', good.replace('income', 'incomes'), 'FILE_HEADER_MISMATCH'],
    ['without its label', good.replace('default', 'other'), 'FILE_HEADER_MISMATCH'],
    ['with a doubled column', good.replace('debt', 'income'), 'FILE_HEADER_MISMATCH'],
    ['empty', '', 'FILE_HEADER_MISMATCH'],
    ['no text', Uint8Array.from({ length: 999 }, (_, i) => (i * 73) & 255), 'FILE_HEADER_MISMATCH'],
  ])('%s', async (_name, content, code) => {
    expect(await codeOf(outline(content))).toBe(code);
  });

  test('absent, or a folder', async () => {
    const read = async (path: string) => {
      for await (const _ of readRows(contract, path));
    };
    expect(await codeOf(read(join(folder, 'absent.csv')))).toBe('FILE_UNREADABLE');
    expect(await codeOf(read(folder))).toBe('FILE_UNREADABLE');
  });

  test('cut at every byte: it never passes with a row that is not in it', async () => {
    const whole = await outline(good);
    for (let length = header.length + 1; length < good.length; length++) {
      const read = await outline(good.slice(0, length)).catch((error: unknown) => {
        expect(error).toMatchObject({ code: 'FILE_TRUNCATED' });
        return [];
      });
      expect(read).toEqual(whole.slice(0, read.length));
    }
  });
});

describe('a fingerprint', () => {
  test('is the hash of the content, compressed or not', async () => {
    const expected = createHash('sha256').update(good).digest('hex');
    expect((await fingerprintFile(await file(good))).sha256).toBe(expected);
    expect((await fingerprintFile(await file(gzipSync(good)))).sha256).toBe(expected);
    expect(await codeOf(fingerprintFile(await file(gzipSync(good).subarray(0, 40))))).toBe('FILE_TRUNCATED');
  });
});

describe('records', () => {
  const subjectKey = new Uint8Array(32).fill(7);

  async function records(content: string, of = contract, fingerprint?: string) {
    const path = await file(content);
    const tally = emptyTally(of);
    const held: NewRecord[] = [];
    const fileSha256 = fingerprint ?? (await fingerprintFile(path)).sha256;
    for await (const record of recordsOf(of, path, { subjectKey, fileSha256, tally })) held.push(record);
    return { held, tally };
  }

  test('carry the tag of the customer and never the key', async () => {
    const { held, tally } = await records(good);
    expect(held.map(({ subject }) => Buffer.from(subject).toString('hex'))).toEqual(
      ['c1', 'c2', 'c,3'].map((key) => subjectTags(subjectKey).ofCustomer(key).toString('hex')),
    );
    expect(held.map(({ label }) => label)).toEqual([1, 0, 0]);
    expect(tally).toMatchObject({ accepted: 3, rejected: 0, positive: 1, clamped: 1, clampedByField: [1, 0, 0, 0] });
  });

  test('the tag is HMAC-SHA-256, a value of openssl', () => {
    // printf 'veilrisk customer\0c1' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0707...07 (32 bytes)
    expect(subjectTags(subjectKey).ofCustomer('c1').toString('hex')).toBe(
      '10c5af541aec8f6bd2ecfb7c709f9e9ea948799d722d981fd1a0ed5312e0920f',
    );
  });

  test('without a customer key are customers of their own, the same for the same file', async () => {
    const single = parseContract({ ...exampleDocument(), subject: null });
    const first = (await records(good, single)).held.map(({ subject }) => Buffer.from(subject).toString('hex'));
    const again = (await records(good, single)).held.map(({ subject }) => Buffer.from(subject).toString('hex'));
    expect(new Set(first).size).toBe(3);
    expect(again).toEqual(first);
  });

  test('of a file that mostly does not fit are refused, with the first issues and no cell', async () => {
    const bad = `${header}\n${rows[0]}\n${'c9,,secret,1,car,no,0\n'.repeat(30)}`;
    const error = await records(bad).catch((failure: unknown) => failure);
    expect(error).toMatchObject({ code: 'FILE_REJECTED' });
    const { issues, message } = error as ContractError;
    expect(issues).toHaveLength(20);
    expect(issues[0]).toEqual({ field: 'line 3, income', rule: 'must be a finite decimal number' });
    expect(JSON.stringify([message, issues])).not.toContain('secret');
  });

  test('of a file without rows, or one that changed, are refused', async () => {
    expect(await codeOf(records(`${header}\n`))).toBe('FILE_REJECTED');
    expect(await codeOf(records(good, contract, '0'.repeat(64)))).toBe('FILE_UNREADABLE');
  });
});

describe('a simulation', () => {
  const options = { seed: 5, bank: 'b', rows: 2_000 };

  test('is written whole, plain and compressed with the same content', async () => {
    const plain = join(folder, 'synthetic-b.csv');
    const packed = join(folder, 'synthetic-b.csv.gz');
    const summary = await simulateToFile({ ...options, out: plain });
    expect(await simulateToFile({ ...options, out: packed })).toEqual(summary);
    expect(summary).toMatchObject({ rows: 2_000, frauds: 40 });
    for (const path of [plain, packed]) {
      expect(await fingerprintFile(path)).toMatchObject({ sha256: summary.sha256, bytes: summary.bytes });
    }
  });

  test('that cannot be written says so', async () => {
    expect(await codeOf(simulateToFile({ ...options, out: join(folder, 'absent', 'x.csv') }))).toBe('FILE_UNREADABLE');
  });
});
