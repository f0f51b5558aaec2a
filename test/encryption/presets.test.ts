import { describe, expect, test } from '@jest/globals';
import {
  assertSecure,
  ERROR_DEVIATION,
  floodMarginBits,
  LOGIT_ERROR_CONTRACT,
  MAX_ABS_LOGIT,
  MAX_INPUT_MASS,
  PRESETS,
  productBits,
} from '../../src/encryption/presets.ts';
import { sealRuntime } from '../../src/encryption/seal.ts';
import { EncryptionError } from '../../src/errors.ts';

describe('security table', () => {
  test.each([
    [2048, [53], true],
    [2048, [54], false],
    [4096, [45, 44, 17], true],
    [4096, [45, 44, 18], false],
    // SEAL's own table accepts 109 bits here.
    [4096, [36, 36, 37], false],
    [8192, [214], true],
    [8192, [215], false],
    [16384, [430], true],
    [16384, [431], false],
    [1024, [20], false],
  ])('N = %d with %j bits: %s', (degree, bits, allowed) => {
    const check = () => assertSecure(degree, bits);
    if (allowed) expect(check).not.toThrow();
    else expect(check).toThrow(EncryptionError);
  });
});

describe.each(Object.values(PRESETS))('preset $name', (preset) => {
  test('is the one SEAL builds, with the primes written here', async () => {
    const { context } = await sealRuntime(preset.name);
    const data = context.keyContextData();
    const parameters = data.parms();
    const primes = parameters.coeffModulus();
    const values = preset.primes.map((_, i) => {
      const prime = primes.get(i)!;
      const value = prime.value();
      prime.delete();
      return value;
    });
    expect(values).toEqual([...preset.primes]);
    expect(preset.primes.map((prime) => prime.toString(2).length)).toEqual([...preset.primeBits]);
    for (const object of [primes, parameters, data]) object.delete();
  });

  test('carries the largest allowed logit with its flood before and after rescaling', () => {
    const half = (preset.primes[0] * preset.primes[1]) / 2n;
    const largest = BigInt(MAX_ABS_LOGIT) << BigInt(productBits(preset));
    // Thirty deviations: beyond any sample that will ever be drawn.
    expect(largest + (30n << BigInt(preset.floodBits))).toBeLessThan(half);
    expect(largest / preset.primes[1] + 2n ** 20n).toBeLessThan(preset.primes[0] / 2n);
  });

  test('floods by at least 2^36 deviations at every dimension and 2^40 at 350', () => {
    expect(floodMarginBits(preset, preset.degree)).toBeGreaterThanOrEqual(36);
    expect(floodMarginBits(preset, 350)).toBeGreaterThanOrEqual(40);
  });

  test('keeps the error contract with twelve deviations of flood and the worst rounding of weights', () => {
    const rounding = MAX_INPUT_MASS * 2 ** -(preset.weightBits + 1);
    const flood = 12 * 2 ** (preset.floodBits - productBits(preset));
    // SEAL's fresh error at ten deviations on the product, over N worst weights.
    const fresh = (10 * ERROR_DEVIATION * 8 * Math.sqrt(preset.degree)) / 2 ** preset.inputBits;
    expect(rounding + flood + fresh).toBeLessThan(LOGIT_ERROR_CONTRACT);
  });
});
