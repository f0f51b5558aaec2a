/**
 * Ends the only thread of a pool during a job, then its replacements while they load, and prints what became of the jobs
 * and of the pool's readiness.
 */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { openEncryption } from '../../src/encryption/encryption.ts';
import { EncryptionError } from '../../src/errors.ts';
import { openLog } from '../../src/log.ts';
import { openEncryptionPool } from '../../src/workers/encryptionPool.ts';
import { headerOf, modelOf } from '../encryption/support.ts';

const threads: Worker[] = [];
const exits: Promise<unknown>[] = [];
let killLoading = 0;
process.on('worker', (worker) => {
  threads.push(worker);
  // From its beginning: a thread that is ended while it loads may have gone before anybody waits for that.
  exits.push(once(worker, 'exit'));
  if (killLoading-- > 0) worker.terminate();
});

const model = modelOf(new Float64Array(200).fill(0.5));
const encryption = await openEncryption('standard');
const key = encryption.createKeys();
const request = encryption.encryptRequest(key, headerOf(key, model, 'column', 1), [[[1, 1]]]);
const pool = openEncryptionPool({ threads: 1, timeoutMs: 20_000, queueLimit: 4, log: openLog('test', 'silent') });
await pool.warmed;

const job = { model, publicKey: key.publicKey, request };
const codeOf = (error: unknown) => (error instanceof EncryptionError ? error.code : 'unknown');
const first = pool.score(job).then(() => 'accepted', codeOf);
threads[0].terminate();
await exits[0];
const outcome = await first;
const readyWithout = pool.ready();
const second = await pool.score(job).then(() => 'accepted', codeOf);
const seen = { first: outcome, readyWithout, second, threads: threads.length, ready: pool.ready() };

const before = threads.length;
killLoading = 3;
threads[before - 1].terminate();
while (threads.length < before + 3) await sleep(10);
await exits[before + 2];
const readyWhenAllDied = pool.ready();
while (!pool.ready()) await sleep(20);
const third = await pool.score(job).then(() => 'accepted', codeOf);
process.stdout.write(JSON.stringify({ ...seen, diedLoading: 3, readyWhenAllDied, readyAgain: pool.ready(), third }));
await pool.close();
