/**
 * Memory over many requests on one scorer: resident pages and WASM heap after 10 %, 50 % and all of them.
 *
 * One request in 500 is a column, one in 100 is newly encrypted and its reply decrypted, one in 50 is damaged where
 * only the last check looks, because leaks like the way out of a refusal. Garbage is collected before each
 * look, so that what is seen is kept and not merely not yet swept.
 * Limit: WASM memory never shrinks; flat means that every object was deleted.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { openEncryption } from '../../../src/encryption/encryption.ts';
import { SEED_TRAILER_BYTES } from '../../../src/encryption/sealBytes.ts';
import { EncryptionError } from '../../../src/errors.ts';
import { systemRandom } from '../../../src/random.ts';
import { headerOf } from '../../encryption/support.ts';
import type { BenchmarkReport } from '../report.ts';
import { bundledContract } from './bars.ts';
import { anyModel, anyVectors } from './measure.ts';

/** Where SEAL's loader puts the memory of its module, from now on. */
function watchMemory(): () => number {
  const memories: WebAssembly.Memory[] = [];
  const instantiate = WebAssembly.instantiate;
  // Safe: only the form that takes bytes is used by node-seal, and it is passed through.
  WebAssembly.instantiate = (async (source: BufferSource, imports?: WebAssembly.Imports) => {
    const result = await instantiate(source, imports);
    memories.push(...Object.values(result.instance.exports).filter((one) => one instanceof WebAssembly.Memory));
    return result;
  }) as typeof WebAssembly.instantiate;
  return () => memories.reduce((sum, { buffer }) => sum + buffer.byteLength, 0);
}

/** To be called before anything else has loaded SEAL. @param requests at least 1,000 */
export async function measureMemory(report: BenchmarkReport, requests: number): Promise<void> {
  const wasmBytes = watchMemory();
  setFlagsFromString('--expose-gc');
  // Safe: the flag puts the function there.
  const collect = runInNewContext('gc') as () => void;
  const encryption = await openEncryption('standard');
  const key = encryption.createKeys();
  const scorer = encryption.openScorer(systemRandom());
  const { dimension, fields } = bundledContract();
  const model = anyModel(dimension);
  const rowHeader = headerOf(key, model, 'row', 1);
  const small = anyModel(30);
  const column = encryption.encryptRequest(key, headerOf(key, small, 'column', 64), anyVectors(30, 64, 10));
  let row = encryption.encryptRequest(key, rowHeader, anyVectors(dimension, 1, fields));
  let refused = 0;

  const looks = [0.1, 0.5, 1].map((share) => Math.round(share * requests));
  const resident: number[] = [];
  const start = performance.now();
  for (let i = 1; i <= requests; i++) {
    if (i % 500 === 0) scorer.score(small, key.publicKey, column);
    else if (i % 50 === 0) refused += Number(isRefused(() => scorer.score(model, key.publicKey, damaged(row))));
    else {
      const reply = scorer.score(model, key.publicKey, row);
      if (i % 100 === 1) {
        encryption.decryptReply(key, rowHeader, reply);
        row = encryption.encryptRequest(key, rowHeader, anyVectors(dimension, 1, fields));
      }
    }
    scorer.refill();
    if (!looks.includes(i)) continue;
    collect();
    const { rss } = process.memoryUsage();
    resident.push(rss);
    const at = `memory after ${i.toLocaleString('en-US')} requests`;
    report.add({ name: `${at}, resident`, value: rss / 2 ** 20, unit: 'MiB' });
    report.add({ name: `${at}, WASM heap`, value: wasmBytes() / 2 ** 20, unit: 'MiB' });
  }
  const seconds = (performance.now() - start) / 1000;
  scorer.close();
  report.add({ name: 'memory: refused requests among them', value: refused, unit: 'requests' });
  report.add({
    name: 'memory: requests a second, one thread, refills included',
    value: requests / seconds,
    unit: '1/s',
  });
  const growth = (100 * (resident[2] - resident[0])) / resident[0];
  report.add({ name: 'memory: growth from 10 % to 100 %', value: growth, unit: '%', bar: { atMost: 5 } });
}

/** The last residue of the ciphertext is not below its prime. */
function damaged(request: Uint8Array): Uint8Array {
  const copy = request.slice();
  copy[copy.length - SEED_TRAILER_BYTES - 1] = 0xff;
  return copy;
}

function isRefused(step: () => void): boolean {
  try {
    step();
    return false;
  } catch (error) {
    if (error instanceof EncryptionError) return true;
    throw error;
  }
}
