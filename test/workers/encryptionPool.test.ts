/** The pool from outside: answers, codes across the thread boundary, time limit, dead threads, a full queue. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { type Encryption, openEncryption, type SecretKey } from '../../src/encryption/encryption.ts';
import { readFrame, writeFrame } from '../../src/encryption/wire.ts';
import type { EncryptionError } from '../../src/errors.ts';
import { openLog } from '../../src/log.ts';
import {
  type EncryptionPool,
  type EncryptionPoolOptions,
  openEncryptionPool,
} from '../../src/workers/encryptionPool.ts';
import { headerOf, modelOf } from '../encryption/support.ts';

const log = openLog('test', 'silent');
const model = modelOf([1.5, -2, 0.25], 1);

let encryption: Encryption;
let key: SecretKey;
let request: Uint8Array;
let pool: EncryptionPool;

beforeAll(async () => {
  encryption = await openEncryption('standard');
  key = encryption.createKeys();
  request = encryption.encryptRequest(key, headerOf(key, model, 'row', 1), [[[1, 1]]]);
});

afterEach(() => pool.close());

function open(options: Partial<EncryptionPoolOptions> = {}): EncryptionPool {
  pool = openEncryptionPool({ threads: 1, timeoutMs: 20_000, queueLimit: 16, log, ...options });
  return pool;
}

const score = (owner?: string) => pool.score({ model, publicKey: key.publicKey, request, owner });
const logitOf = (reply: Uint8Array) => encryption.decryptReply(key, headerOf(key, model, 'row', 1), reply)[0];

async function codeOf(job: Promise<unknown>): Promise<string> {
  try {
    await job;
  } catch (error) {
    return (error as EncryptionError).code;
  }
  return 'accepted';
}

test('answers, many at once on two threads, and leaves the caller its bytes', async () => {
  open({ threads: 2 });
  const replies = await Promise.all(Array.from({ length: 12 }, (_, i) => score(`caller ${i % 3}`)));
  for (const reply of replies) expect(Math.abs(logitOf(reply) + 1)).toBeLessThan(2e-3);
  expect(request.length).toBeGreaterThan(65_000);
  expect(await pool.inspectPublicKey(key.publicKey)).toEqual({ keyId: key.keyId, preset: 'standard' });
});

test('is ready once SEAL is loaded and not after closing', async () => {
  open();
  expect(pool.ready()).toBe(false);
  await pool.warmed;
  expect(pool.ready()).toBe(true);
  await pool.close();
  expect(pool.ready()).toBe(false);
  expect(await codeOf(score())).toBe('WORKER_FAILED');
});

describe('refusals keep their code', () => {
  test('and the thread goes on', async () => {
    open();
    const bad = request.slice();
    bad[200] ^= 1;
    const broken = { model, publicKey: key.publicKey, request: bad };
    expect(await codeOf(pool.score(broken))).toBe('CIPHERTEXT_PARAMETERS');
    expect(await codeOf(pool.score({ ...broken, request: new Uint8Array(3) }))).toBe('FRAME_MALFORMED');
    expect(await codeOf(pool.score({ model: modelOf([9, 1, 1]), publicKey: key.publicKey, request }))).toBe(
      'ENCRYPTION_PARAMETER',
    );
    expect(await codeOf(pool.score({ model, publicKey: new Uint8Array(9), request }))).toBe('FRAME_MISMATCH');
    expect(await codeOf(pool.inspectPublicKey(new Uint8Array(98_498)))).toBe('PUBLIC_KEY_MALFORMED');
    await expect(pool.score(broken)).rejects.toMatchObject({ where: 'ciphertext 0', name: 'EncryptionError' });
    expect(Math.abs(logitOf(await score()) + 1)).toBeLessThan(2e-3);
  });
});

/** The same honest ciphertext 1,500 times: well formed, and more work than the short time limits below allow. */
function heavyJob(owner: string) {
  const wide = modelOf(new Float64Array(1500).fill(0.5), 0, 'ee');
  const part = readFrame('request', request).parts[0];
  const parts = Array.from({ length: 1500 }, () => part);
  const heavy = writeFrame('request', headerOf(key, wide, 'column', 1), parts);
  return { model: wide, publicKey: key.publicKey, request: heavy, owner };
}

test('a job over its time is ended with its thread; the pool is ready when another thread is', async () => {
  open({ timeoutMs: 400 });
  await pool.warmed;
  expect(await codeOf(pool.score(heavyJob('a')))).toBe('WORKER_TIMEOUT');
  expect(pool.ready()).toBe(false);
  while (!pool.ready()) await new Promise((later) => setTimeout(later, 10));
  expect(await codeOf(score())).toBe('accepted');
});

test('waiting counts: a job whose time is over leaves the queue unanswered, and a later one is answered', async () => {
  open({ timeoutMs: 400 });
  await pool.warmed;
  const codes = await Promise.all([codeOf(pool.score(heavyJob('a'))), codeOf(score('b')), codeOf(score('c'))]);
  expect(codes).toEqual(['WORKER_TIMEOUT', 'WORKER_TIMEOUT', 'WORKER_TIMEOUT']);
  while (!pool.ready()) await new Promise((later) => setTimeout(later, 10));
  expect(await codeOf(score('b'))).toBe('accepted');
});

test('a caller who sends nothing but jobs that hang does not keep the others out', async () => {
  open({ threads: 2, timeoutMs: 400 });
  await pool.warmed;
  const attack = heavyJob('mallory');
  const outcomes: string[] = [];
  let over = false;
  const attackers = Array.from({ length: 4 }, async () => {
    while (!over) outcomes.push(await codeOf(pool.score(attack)));
  });
  while (outcomes.length === 0) await new Promise((later) => setTimeout(later, 20));
  // The time limit is shorter than a thread takes to load, so some of these wait for one in vain; they ask again.
  let answered = 0;
  for (let i = 0; i < 100 && answered < 10; i++) if ((await codeOf(score('honest'))) === 'accepted') answered++;
  over = true;
  await Promise.all(attackers);
  expect(answered).toBe(10);
  expect(new Set(outcomes)).toEqual(new Set(['WORKER_TIMEOUT']));
});

test('a job whose caller has gone is taken out of the queue', async () => {
  open();
  await pool.warmed;
  const gone = new AbortController();
  const first = codeOf(score('a'));
  const second = pool.score({ model, publicKey: key.publicKey, request, owner: 'b', signal: gone.signal });
  gone.abort(new Error('left'));
  await expect(second).rejects.toThrow('left');
  expect(await first).toBe('accepted');
});

test('a thread that dies fails its job and is replaced', async () => {
  open();
  await pool.warmed;
  // In a process of its own: only Node itself, not a test sandbox, tells of the threads it starts.
  const script = join(import.meta.dirname, 'killThread.ts');
  const { stdout } = await promisify(execFile)(process.execPath, [script], { timeout: 30_000 });
  expect(JSON.parse(stdout)).toEqual({
    first: 'WORKER_FAILED',
    readyWithout: false,
    second: 'accepted',
    threads: 2,
    ready: true,
    diedLoading: 3,
    readyWhenAllDied: false,
    readyAgain: true,
    third: 'accepted',
  });
});

describe('a full queue refuses at once', () => {
  test('one caller who holds its share, and not the others', async () => {
    open({ queueLimit: 5 });
    await pool.warmed;
    const own = Array.from({ length: 8 }, () => codeOf(score('a')));
    expect([pool.ready(), pool.ready('a'), pool.ready('b')]).toEqual([true, false, true]);
    await expect(score('a')).rejects.toMatchObject({ code: 'POOL_FULL', message: expect.stringMatching(/^Your/) });
    const other = codeOf(score('b'));
    expect(await other).toBe('accepted');
    const outcomes = await Promise.all(own);
    expect(outcomes.filter((code) => code === 'POOL_FULL').length).toBe(5);
    expect(outcomes.filter((code) => code === 'accepted').length).toBe(3);
  });

  test('everybody when all places are taken, and nobody after', async () => {
    open({ queueLimit: 2 });
    await pool.warmed;
    const jobs = ['a', 'b', 'c'].map((owner) => codeOf(score(owner)));
    expect(pool.ready()).toBe(false);
    await expect(score('d')).rejects.toMatchObject({
      code: 'POOL_FULL',
      message: expect.stringMatching(/all callers/),
    });
    expect(await Promise.all(jobs)).toEqual(['accepted', 'accepted', 'accepted']);
    expect(pool.ready()).toBe(true);
    expect(await codeOf(score('d'))).toBe('accepted');
  });
});
