/** Ends the thread of a training pool during a job, and prints what became of that job and of those around it. */
import { once } from 'node:events';
import type { Worker } from 'node:worker_threads';
import { VeilriskError } from '../../src/errors.ts';
import { openLog } from '../../src/log.ts';
import { sharedMemory } from '../../src/workers/thread.ts';
import { openTrainingPool } from '../../src/workers/trainingPool.ts';

const threads: Worker[] = [];
process.on('worker', (worker) => threads.push(worker));

const rows = 2_000_000;
const data = {
  rows,
  sizes: [2],
  bins: new Uint16Array(sharedMemory(rows * 2)),
  labels: new Uint8Array(sharedMemory(rows)),
};
const codeOf = (error: unknown) => (error instanceof VeilriskError ? error.code : 'unknown');
const job = () =>
  pool
    .gradient(data, { intercept: 0.5, weights: [[1, 2]] }, { residualBits: 8, residualLimit: 256 })
    .then(() => 'accepted', codeOf);

const pool = openTrainingPool({ log: openLog('test', 'silent') });
const before = threads.length;
const first = await job();
const dying = job();
const ended = once(threads[0], 'exit');
threads[0].terminate();
await ended;
const second = await dying;
const third = await job();
const count = threads.length;
const last = job();
await pool.close();
const whileClosing = await last;
process.stdout.write(JSON.stringify({ before, first, second, third, threads: count, whileClosing }));
