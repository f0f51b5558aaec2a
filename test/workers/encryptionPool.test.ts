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

const score = () => pool.score({ model, publicKey: key.publicKey, request });
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
  const replies = await Promise.all(Array.from({ length: 12 }, score));
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

test('a job over its time is ended with its thread, and the next one is answered', async () => {
  open({ timeoutMs: 400 });
  await pool.warmed;
  // The same honest ciphertext 1,500 times: well formed, and more work than the limit allows.
  const wide = modelOf(new Float64Array(1500).fill(0.5), 0, 'ee');
  const part = readFrame('request', request).parts[0];
  const heavy = writeFrame(
    'request',
    headerOf(key, wide, 'column', 1),
    Array.from({ length: 1500 }, () => part),
  );
  expect(await codeOf(pool.score({ model: wide, publicKey: key.publicKey, request: heavy }))).toBe('WORKER_TIMEOUT');
  let answered = false;
  for (let i = 0; i < 20 && !answered; i++) answered = (await codeOf(score())) === 'accepted';
  expect(answered).toBe(true);
});

test('a thread that dies fails its job and is replaced', async () => {
  open();
  await pool.warmed;
  // In a process of its own: only Node itself, not a test sandbox, tells of the threads it starts.
  const script = join(import.meta.dirname, 'killThread.ts');
  const { stdout } = await promisify(execFile)(process.execPath, [script], { timeout: 30_000 });
  expect(JSON.parse(stdout)).toEqual({ first: 'WORKER_FAILED', second: 'accepted', threads: 2, ready: true });
});

test('one job more than the queue holds is refused at once', async () => {
  open({ queueLimit: 2 });
  await pool.warmed;
  const outcomes = await Promise.all(Array.from({ length: 10 }, () => codeOf(score())));
  expect(outcomes.filter((code) => code === 'POOL_FULL').length).toBe(7);
  expect(outcomes.filter((code) => code === 'accepted').length).toBe(3);
  expect(await codeOf(score())).toBe('accepted');
});
