import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parseCheckpoint, signCheckpoint, verifyCheckpoint } from '../../src/audit/checkpoint.ts';
import { createLogSigner, encodeVerifierKey, parseVerifierKey, signNote, verifyNote } from '../../src/audit/note.ts';
import { leafHash } from '../../src/audit/tree.ts';

const pair = async () => (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair;

describe('signed notes', () => {
  // The example of golang.org/x/mod/sumdb/note (package documentation), whose format C2SP signed-note took over.
  const GO_KEY = 'PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW';
  const GO_NOTE =
    'If you think cryptography is the answer to your problem,\n' +
    "then you don't know what your problem is.\n" +
    '\n' +
    '— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n';

  test('a foreign note verifies', async () => {
    const key = parseVerifierKey(GO_KEY);
    expect(key.name).toBe('PeterNeumann');
    expect(encodeVerifierKey(key.name, key.publicKey)).toBe(GO_KEY);
    expect(await verifyNote(GO_NOTE, key)).toBe(GO_NOTE.slice(0, GO_NOTE.indexOf('\n\n') + 1));
  });

  test('a note with an unknown signature beside the known one verifies', async () => {
    const other = await createLogSigner('witness.example', await pair());
    const text = GO_NOTE.slice(0, GO_NOTE.indexOf('\n\n') + 1);
    const line = (await signNote(text, other)).split('\n').at(-2);
    await expect(verifyNote(`${GO_NOTE}${line}\n`, parseVerifierKey(GO_KEY))).resolves.toBe(text);
    await expect(verifyNote(`${GO_NOTE}${line}\n`, parseVerifierKey(other.verifierKey))).resolves.toBe(text);
    await expect(verifyNote(GO_NOTE, parseVerifierKey(other.verifierKey))).rejects.toMatchObject({
      code: 'AUDIT_SIGNATURE_INVALID',
    });
  });

  test.each([
    ['no signature', 'text\n'],
    ['no blank line', 'text\n— a AAAAAAAA\n'],
    ['no final newline', GO_NOTE.slice(0, -1)],
    ['a control character', GO_NOTE.replace('If', 'I\tf')],
    ['a hyphen for the dash', GO_NOTE.replace('—', '-')],
    ['stray bits in base64', GO_NOTE.replace('nAM=', 'nAN=')],
  ])('%s is refused', async (_, note) => {
    await expect(verifyNote(note, parseVerifierKey(GO_KEY))).rejects.toMatchObject({ code: 'AUDIT_NOTE_MALFORMED' });
  });

  test.each([
    '',
    'name',
    'name+c74f20a3',
    GO_KEY.replace('c74f20a3', 'c74f20a4'),
    GO_KEY.replace('+AR', '+AQ'),
    `${GO_KEY}A`,
  ])('a malformed verifier key is refused: %s', (key) => {
    expect(() => parseVerifierKey(key)).toThrow(expect.objectContaining({ code: 'AUDIT_NOTE_MALFORMED' }));
  });
});

describe('checkpoints', () => {
  test('sign, parse, verify; every single-bit change fails', async () => {
    const signer = await createLogSigner('bank-a.example/audit', await pair());
    const root = leafHash(new Uint8Array([1]));
    const note = await signCheckpoint(42, root, signer);
    expect(note.split('\n').slice(0, 2)).toEqual(['bank-a.example/audit', '42']);
    expect(parseCheckpoint(note)).toEqual({ origin: 'bank-a.example/audit', size: 42, root });
    const key = parseVerifierKey(signer.verifierKey);
    expect(await verifyCheckpoint(note, key)).toEqual({ origin: 'bank-a.example/audit', size: 42, root });
    const bytes = new TextEncoder().encode(note);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const copy = bytes.slice();
      copy[bit >> 3] ^= 1 << (bit & 7);
      await expect(verifyCheckpoint(new TextDecoder().decode(copy), key)).rejects.toMatchObject({
        code: expect.stringMatching(/^AUDIT_(NOTE_MALFORMED|SIGNATURE_INVALID)$/),
      });
    }
  });

  test('a checkpoint of another log, signed with the right key, is refused', async () => {
    const keys = await pair();
    const signer = await createLogSigner('bank-a.example', keys);
    const note = await signNote(`bank-b.example\n1\n${'A'.repeat(43)}=\n`, signer);
    await expect(verifyCheckpoint(note, parseVerifierKey(signer.verifierKey))).rejects.toMatchObject({
      code: 'AUDIT_SIGNATURE_INVALID',
    });
  });

  test.each(['', '01', '-1', '1e3', '9007199254740993', '1 '])('the size %j is refused', async (size) => {
    const signer = await createLogSigner('bank-a.example', await pair());
    const note = await signNote(`bank-a.example\n${size}\n${'A'.repeat(43)}=\n`, signer);
    expect(() => parseCheckpoint(note)).toThrow(expect.objectContaining({ code: 'AUDIT_NOTE_MALFORMED' }));
  });

  test('sizes and roots survive the round trip', async () => {
    const signer = await createLogSigner('log', await pair());
    await fc.assert(
      fc.asyncProperty(fc.maxSafeNat(), fc.uint8Array({ minLength: 32, maxLength: 32 }), async (size, root) => {
        const parsed = parseCheckpoint(await signCheckpoint(size, root, signer));
        expect(parsed.size).toBe(size);
        expect(Buffer.from(parsed.root).equals(Buffer.from(root))).toBe(true);
      }),
      { numRuns: 50 },
    );
  });
});
