/** Ends the only thread of a pool during a job, and prints what became of that job and of the next. */
import { once } from 'node:events';
import type { Worker } from 'node:worker_threads';
import { openEncryption } from '../../src/encryption/encryption.ts';
import { EncryptionError } from '../../src/errors.ts';
import { openLog } from '../../src/log.ts';
import { openEncryptionPool } from '../../src/workers/encryptionPool.ts';
import { headerOf, modelOf } from '../encryption/support.ts';

const threads: Worker[] = [];
process.on('worker', (worker) => threads.push(worker));

const model = modelOf(new Float64Array(200).fill(0.5));
const encryption = await openEncryption('standard');
const key = encryption.createKeys();
const request = encryption.encryptRequest(key, headerOf(key, model, 'column', 1), [[[1, 1]]]);
const pool = openEncryptionPool({ threads: 1, timeoutMs: 20_000, queueLimit: 4, log: openLog('test', 'silent') });
await pool.warmed;

const job = { model, publicKey: key.publicKey, request };
const codeOf = (error: unknown) => (error instanceof EncryptionError ? error.code : 'unknown');
const first = pool.score(job).then(() => 'accepted', codeOf);
const ended = once(threads[0], 'exit');
threads[0].terminate();
await ended;
const outcome = await first;
const second = await pool.score(job).then(() => 'accepted', codeOf);
process.stdout.write(JSON.stringify({ first: outcome, second, threads: threads.length, ready: pool.ready() }));
await pool.close();
