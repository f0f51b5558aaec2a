/**
 * `npm run fuzz:encryption -- --inputs 1000000 [--seed N]`: hostile bytes by the million.
 *
 * Progress on stderr, a JSON summary on stdout. A failing input is named by seed and number and ends the run with 1.
 */
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { fuzzEncryption, watchWasmMemory } from './encryptionFuzz.ts';

const { values } = parseArgs({
  options: { inputs: { type: 'string', default: '1000000' }, seed: { type: 'string' } },
});
const inputs = Number(values.inputs);
const seed = values.seed === undefined ? crypto.getRandomValues(new Uint32Array(1))[0] : Number(values.seed);
const SILENCE_MS = 120_000;

// An input that hangs holds this thread; the watcher ends the process when nothing has moved for long.
const heartbeat = new Int32Array(new SharedArrayBuffer(4));
const watcher = new Worker(
  `const { workerData: beat } = require('node:worker_threads');
   let before = -1;
   setInterval(() => {
     const now = Atomics.load(beat, 0);
     if (now === before) { process.stderr.write('no progress after input ' + now + '\\n', () => process.kill(process.pid)); }
     before = now;
   }, ${SILENCE_MS});`,
  { eval: true, workerData: heartbeat },
);
watcher.unref();

process.stderr.write(`fuzzing ${inputs} inputs, seed ${seed}\n`);
const started = performance.now();
try {
  const summary = await fuzzEncryption(
    {
      ...{ inputs, seed, limitMs: 5_000 },
      onProgress(done) {
        Atomics.store(heartbeat, 0, done);
        const seconds = (performance.now() - started) / 1000;
        process.stderr.write(`${done} of ${inputs}, ${Math.round(done / seconds)} a second\n`);
      },
    },
    watchWasmMemory(),
  );
  process.stdout.write(`${JSON.stringify(summary, null, 2)}\n`);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exitCode = 1;
}
