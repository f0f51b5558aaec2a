/**
 * The secret-key file: golden bytes read by node:crypto alone, every byte changed, hostile headers, passphrases.
 */
import { createDecipheriv, createHash, scryptSync } from 'node:crypto';
import { beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  createKeys,
  exportSecretKey,
  openKeyFile,
  publicPart,
  type SecretKey,
  sealKeyFile,
} from '../../src/client/client.ts';
import { ClientError } from '../../src/errors.ts';
import type { RandomSource } from '../../src/random.ts';

const PASSPHRASE = 'correct horse \u{1F40E} battery ﬁve'; // the last word has a ligature, which NFKC takes apart
/** Bytes 1, 2, 3, ... for salt and nonce. */
function counting(): RandomSource {
  let next = 0;
  return {
    nextUint32: () => ++next,
    fill: (out) => {
      for (let i = 0; i < out.length; i++) out[i] = ++next;
    },
  };
}

let key: SecretKey;
let file: Uint8Array;

beforeAll(async () => {
  key = await createKeys();
  file = await sealKeyFile(key, PASSPHRASE, counting());
});

const changed = (at: number, value = file[at] ^ 1) => {
  const copy = file.slice();
  copy[at] = value;
  return copy;
};
/** What somebody who changes a file on purpose does as well. */
const redigested = (bytes: Uint8Array) => {
  bytes.set(createHash('sha256').update(bytes.subarray(0, -32)).digest(), bytes.length - 32);
  return bytes;
};
const codeOf = async (opening: Promise<unknown>): Promise<string> =>
  opening.then(
    () => 'opened',
    (error) => (error instanceof ClientError ? error.code : String(error)),
  );

test('the bytes are those of FORMAT.md, section 6', () => {
  const hex = (from: number, to: number) => Buffer.from(file.subarray(from, to)).toString('hex');
  expect(hex(0, 16)).toBe(
    '56524b46' + // magic "VRKF"
      '01' + // version
      '01' + // preset: standard
      '0000' + // reserved
      '110801' + // scrypt: log2 N = 17, r = 8, p = 1
      '0000000000', // reserved
  );
  expect(hex(16, 32)).toBe('0102030405060708090a0b0c0d0e0f10'); // salt
  expect(hex(32, 44)).toBe('1112131415161718191a1b1c'); // nonce
  expect(hex(44, 56)).toBe('c2800100' + '3a010300' + '00000000'); // 98,498; 196,922; reserved
  expect(file.length).toBe(72 + 98_498 + 196_922 + 32);
});

test('node:crypto opens it: scrypt, passphrase check, AES-256-GCM over the whole header, SHA-256', () => {
  const password = Buffer.from(PASSPHRASE.normalize('NFKC'), 'utf8');
  const cost = { N: 2 ** 17, r: 8, p: 1, maxmem: 2 ** 28 };
  const derived = scryptSync(password, file.subarray(16, 32), 48, cost);
  expect(Buffer.from(file.subarray(56, 72))).toEqual(derived.subarray(32));
  const open = 72 + 98_498;
  const decipher = createDecipheriv('aes-256-gcm', derived.subarray(0, 32), file.subarray(32, 44));
  decipher.setAAD(file.subarray(0, open));
  decipher.setAuthTag(file.subarray(-48, -32));
  const secret = Buffer.concat([decipher.update(file.subarray(open, -48)), decipher.final()]);
  expect(secret.equals(exportSecretKey(key))).toBe(true);
  expect(createHash('sha256').update(file.subarray(0, -32)).digest()).toEqual(Buffer.from(file.subarray(-32)));
});

test('opens with the passphrase however it is composed; the event loop turns meanwhile', async () => {
  let turns = 0;
  const timer = setInterval(() => turns++, 5);
  const decomposed = PASSPHRASE.normalize('NFKD');
  expect(decomposed).not.toBe(PASSPHRASE);
  const opened = await openKeyFile(file, decomposed);
  clearInterval(timer);
  expect(exportSecretKey(opened)).toEqual(exportSecretKey(key));
  expect(turns).toBeGreaterThan(5);
});

test('the public part needs no passphrase and holds nothing secret', () => {
  expect(publicPart(file)).toEqual({ keyId: key.keyId, preset: 'standard', publicKey: key.publicKey });
  const secret = Buffer.from(key.exposeSealBytes());
  expect(Buffer.from(file).includes(secret.subarray(-64))).toBe(false);
});

test('salt, nonce and so the ciphertext are fresh for every file', async () => {
  const other = await sealKeyFile(key, PASSPHRASE);
  for (const [from, to] of [
    [16, 32],
    [32, 44],
    [56, 72],
    [98_570, 98_650],
  ]) {
    expect(other.slice(from, to)).not.toEqual(file.slice(from, to));
  }
  expect(other.length).toBe(file.length);
});

// Whatever reached scrypt would be PASSPHRASE_WRONG, or an error of its own: KEY_FILE_MALFORMED came before any work.
describe('refusals', () => {
  test('another passphrase, which no error repeats', async () => {
    const error = await openKeyFile(file, 'hunter2-hunter2').catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'PASSPHRASE_WRONG' });
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain('hunter2');
  });

  test('damage anywhere is no wrong passphrase', async () => {
    const places = [...Array(72).keys(), 72, 5000, 98_569, 98_570, 150_000, file.length - 48, file.length - 1];
    for (const at of places) expect(await codeOf(openKeyFile(changed(at), PASSPHRASE))).toBe('KEY_FILE_MALFORMED');
    for (const length of [0, 1, 71, 72, 119, 98_570, file.length - 1]) {
      expect(await codeOf(openKeyFile(file.slice(0, length), PASSPHRASE))).toBe('KEY_FILE_MALFORMED');
    }
    expect(await codeOf(openKeyFile(new Uint8Array([...file, 0]), PASSPHRASE))).toBe('KEY_FILE_MALFORMED');
  });

  test.each([
    ['the ciphertext', 150_000, 'KEY_FILE_MALFORMED'],
    // Not to be told apart, as FORMAT.md says.
    ['the salt', 20, 'PASSPHRASE_WRONG'],
  ])('%s changed on purpose, with a new digest', async (_, at, code) => {
    expect(await codeOf(openKeyFile(redigested(changed(at)), PASSPHRASE))).toBe(code);
  });

  test("another key's public half, put in on purpose", async () => {
    const mixed = file.slice();
    mixed.set((await createKeys()).publicKey, 72);
    expect(publicPart(redigested(mixed)).keyId).not.toBe(key.keyId);
    expect(await codeOf(openKeyFile(mixed, PASSPHRASE))).toBe('KEY_FILE_MALFORMED');
  });

  test.each([
    ['N = 2^31', 8, 31],
    ['N = 2^19', 8, 19],
    ['N below the least', 8, 16],
    ['r = 255', 9, 255],
    ['p = 0', 10, 0],
    ['p = 255', 10, 255],
    ['a length of 4 GB', 51, 255],
  ])('hostile header, whole file with digest: %s', async (_, at, value) => {
    expect(await codeOf(openKeyFile(redigested(changed(at, value)), PASSPHRASE))).toBe('KEY_FILE_MALFORMED');
  });

  test('headers of any bytes, whole file with digest: a public part or KEY_FILE_MALFORMED', () => {
    fc.assert(
      fc.property(fc.nat(71), fc.uint8Array({ minLength: 1, maxLength: 8 }), (at, bytes) => {
        const mutated = file.slice();
        mutated.set(bytes.subarray(0, 72 - at), at);
        redigested(mutated);
        try {
          expect(publicPart(mutated).keyId).toBe(key.keyId);
        } catch (error) {
          expect(error).toMatchObject({ code: 'KEY_FILE_MALFORMED' });
        }
      }),
      { numRuns: 200, seed: 9 },
    );
  });

  test('a passphrase that is empty or no text', async () => {
    for (const unusable of ['', '\ud800', undefined as unknown as string]) {
      expect(await codeOf(sealKeyFile(key, unusable))).toBe('OPTION_INVALID');
      expect(await codeOf(openKeyFile(file, unusable))).toBe('OPTION_INVALID');
    }
  });
});
