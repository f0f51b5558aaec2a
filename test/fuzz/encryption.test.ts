/** The short run of the fuzzer, and that it finds what it looks for. */
import { expect, test } from '@jest/globals';
import { PRESETS } from '../../src/encryption/presets.ts';
import { loadCiphertext, sealRuntime } from '../../src/encryption/seal.ts';
import { fuzzEncryption, watchWasmMemory } from './encryptionFuzz.ts';

const wasmBytes = watchWasmMemory();

test('five thousand inputs are refused with a code of their kind or worked on, in bounded memory', async () => {
  const summary = await fuzzEncryption({ inputs: 5_000, seed: 20_260_101, limitMs: 5_000 }, wasmBytes);
  expect(summary.reachedSeal).toBeGreaterThan(200);
  for (const outcomes of Object.values(summary.outcomes)) {
    expect(Object.values(outcomes).reduce((sum, count) => sum + count, 0)).toBeGreaterThan(50);
    expect(Object.keys(outcomes).length).toBeGreaterThan(1);
  }
  // Heaps of SEAL grow until the pool of zeros holds all the callers it keeps; the long run compares 10 % with 100 %.
  for (const { wasmBytes } of summary.memory) {
    expect(wasmBytes).toBeGreaterThan(0);
    expect(wasmBytes).toBeLessThan(64 * 2 ** 20);
  }
}, 60_000);

test('the same seed gives the same inputs', async () => {
  const [first, second] = [
    await fuzzEncryption({ inputs: 300, seed: 4, limitMs: 5_000, keyFiles: false }, () => 0),
    await fuzzEncryption({ inputs: 300, seed: 4, limitMs: 5_000, keyFiles: false }, () => 0),
  ];
  expect(second.outcomes).toEqual(first.outcomes);
});

test('an input over its time limit is a finding that names seed, number and bytes', async () => {
  await expect(fuzzEncryption({ inputs: 300, seed: 4, limitMs: 1e-9, keyFiles: false }, () => 0)).rejects.toThrow(
    /ms from input 0 of seed 4: .*, [0-9a-f]{8,}$/,
  );
});

test('what SEAL refuses to load is freed', async () => {
  const { degree, replyParmsId, primes } = PRESETS.standard;
  const runtime = await sealRuntime('standard');
  const residues = new BigUint64Array(2 * degree).fill(primes[0]);
  const shape = { parmsId: replyParmsId, degree, primes: 1, scale: 1 };
  const before = wasmBytes();
  expect(before).toBeGreaterThan(0);
  for (let i = 0; i < 1000; i++) expect(() => loadCiphertext(runtime, shape, residues, false)).toThrow();
  // Kept, they would be 64 MB.
  expect(wasmBytes() - before).toBeLessThan(16 * 2 ** 20);
});
