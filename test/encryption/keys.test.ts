/** The secret key's type, its export, and that requests leave nothing behind in WASM memory. */
import { inspect } from 'node:util';
import { beforeAll, describe, expect, test } from '@jest/globals';
import {
  type Encryption,
  exportSecretKey,
  importSecretKey,
  openEncryption,
  type SecretKey,
} from '../../src/encryption/encryption.ts';
import type { EncryptionError } from '../../src/errors.ts';
import { systemRandom } from '../../src/random.ts';
import { modelOf, roundTrip } from './support.ts';

let encryption: Encryption;
let key: SecretKey;
/** The memory of the WASM module, which node-seal does not hand out. */
let memory: WebAssembly.Memory | undefined;

beforeAll(async () => {
  const instantiate = WebAssembly.instantiate;
  const watch = async (source: BufferSource, imports?: WebAssembly.Imports) => {
    const result = await instantiate(source, imports);
    memory = Object.values(result.instance.exports).find((one) => one instanceof WebAssembly.Memory);
    return result;
  };
  // Safe: emscripten calls the form that takes bytes.
  WebAssembly.instantiate = watch as typeof WebAssembly.instantiate;
  encryption = await openEncryption('standard');
  key = encryption.createKeys();
  WebAssembly.instantiate = instantiate;
  expect(memory).toBeDefined();
});

describe('secret key', () => {
  test('prints its length and nothing else, however it is printed', () => {
    const shown = 'SecretKey(98392 bytes)';
    expect([`${key}`, inspect(key), inspect({ key }), JSON.stringify({ key })]).toEqual([
      shown,
      shown,
      `{ key: ${shown} }`,
      `{"key":"${shown}"}`,
    ]);
    expect(JSON.stringify(structuredClone({ ...key, publicKey: null }))).not.toMatch(/[0-9]{3},[0-9]/);
  });

  test('an exported key still decrypts', () => {
    const scorer = encryption.openScorer(systemRandom());
    const copy = importSecretKey(exportSecretKey(key));
    expect(copy.keyId).toBe(key.keyId);
    expect(roundTrip(encryption, copy, scorer, modelOf([2]), 'row', [[[0, 1]]]).worst).toBeLessThan(2e-3);
    scorer.close();
  });

  test.each([
    ['empty', (_: Uint8Array) => new Uint8Array(0)],
    ['truncated', (bytes: Uint8Array) => bytes.slice(0, -1)],
    ['of another magic', (bytes: Uint8Array) => bytes.with(0, 0)],
    ['of another preset', (bytes: Uint8Array) => bytes.with(5, 2)],
    ['with a reserved byte set', (bytes: Uint8Array) => bytes.with(7, 1)],
    ['with a wrong length', (bytes: Uint8Array) => bytes.with(8, 0)],
    ['with a wrong secret part', (bytes: Uint8Array) => bytes.with(16 + 98_498, 0)],
  ])('an export that is %s is refused', (_, change) => {
    let code = 'accepted';
    try {
      importSecretKey(change(exportSecretKey(key)));
    } catch (error) {
      code = (error as EncryptionError).code;
    }
    expect(code).toBe('ENCRYPTION_INPUT');
  });
});

test('300 requests leave no WASM memory behind', () => {
  const scorer = encryption.openScorer(systemRandom());
  const request = (i: number) => {
    roundTrip(encryption, key, scorer, modelOf([1, 2, 3]), i % 2 ? 'row' : 'column', [[[i % 3, 1]]]);
    scorer.refill();
  };
  for (let i = 0; i < 20; i++) request(i);
  const before = memory!.buffer.byteLength;
  for (let i = 0; i < 300; i++) request(i);
  scorer.close();
  // One forgotten ciphertext a request would be 39 MB. Nothing forgotten is exactly no growth.
  expect(memory!.buffer.byteLength).toBe(before);
});
