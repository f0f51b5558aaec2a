import { createPrivateKey, createPublicKey, sign as edSign } from 'node:crypto';
import { beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { bytesToHex, fromBase64 } from '../../src/audit/bytes.ts';
import { signCheckpoint } from '../../src/audit/checkpoint.ts';
import { compareCheckpoints } from '../../src/audit/compare.ts';
import {
  cosign,
  cosignedBytes,
  encodeWitnessKey,
  parseWitnessKey,
  verifyCosignature,
  verifyWitnesses,
  type Witness,
  withSignatures,
} from '../../src/audit/cosignature.ts';
import {
  createLogSigner,
  encodeVerifierKey,
  type LogSigner,
  openNote,
  parseVerifierKey,
  verifyNote,
} from '../../src/audit/note.ts';

const refused = expect.objectContaining({ code: 'AUDIT_SIGNATURE_INVALID' });
const malformed = expect.objectContaining({ code: 'AUDIT_NOTE_MALFORMED' });
const root = new Uint8Array(32).fill(7);
let log: LogSigner;
let note: string;

async function keys(): Promise<CryptoKeyPair> {
  // Safe: generateKey for Ed25519 always gives a pair.
  return (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair;
}

async function newWitness(name: string): Promise<Witness> {
  const pair = await keys();
  const publicKey = new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey));
  const sign = async (bytes: Uint8Array) =>
    new Uint8Array(await crypto.subtle.sign('Ed25519', pair.privateKey, Uint8Array.from(bytes)));
  return { verifierKey: encodeWitnessKey(name, publicKey), sign };
}

beforeAll(async () => {
  log = await createLogSigner('demo/log', await keys());
  note = await signCheckpoint(5, root, log);
});

describe('against others', () => {
  // Verifier key of a running witness, from transparency-dev/formats note_cosigv1_test.go.
  test('the key id of a witness is that of other software', () => {
    const key = parseWitnessKey('remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2');
    expect([key.name, bytesToHex(key.id)]).toEqual(['remora.n621.de', 'da77ade7']);
    expect(encodeWitnessKey(key.name, key.publicKey)).toContain('+da77ade7+BOvN63jn');
  });

  // C2SP tlog-cosignature v1.0.0, its example: the message of the line whose time is 1679315147.
  test('the bytes signed are those of the specification', () => {
    const text = 'example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n';
    const line =
      'jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==';
    // Safe: the line is base64.
    const blob = fromBase64(line)!;
    expect(blob.length).toBe(76);
    const time = Number(new DataView(blob.buffer).getBigUint64(4));
    expect(time).toBe(1_679_315_147);
    expect(new TextDecoder().decode(cosignedBytes(text, time))).toBe(`cosignature/v1\ntime 1679315147\n${text}`);
  });

  // RFC 8032 section 7.1, test 1: the key of the example in FORMAT.md. OpenSSL signs, this room verifies.
  test('a cosignature made by OpenSSL verifies, and ours is the same bytes', async () => {
    const seed = '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60';
    const der = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), Buffer.from(seed, 'hex')]);
    const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    const publicKey = createPublicKey(key).export({ type: 'spki', format: 'der' }).subarray(12);
    const witness = {
      verifierKey: encodeWitnessKey('bank-b/witness', publicKey),
      sign: (b: Uint8Array) => edSign(null, b, key),
    };
    const { text } = openNote(note);
    const { id } = parseWitnessKey(witness.verifierKey);
    const signature = edSign(null, Buffer.from(`cosignature/v1\ntime 1767225600\n${text}`), key);
    const stamp = Buffer.from('000000006955b900', 'hex');
    const line = `— bank-b/witness ${Buffer.concat([id, stamp, signature]).toString('base64')}`;
    expect(await verifyCosignature(note, line, parseWitnessKey(witness.verifierKey))).toBe(1_767_225_600);
    expect(await cosign(note, witness, 1_767_225_600)).toBe(line);
  });
});

describe('a cosignature', () => {
  test('stands under the note, and the log still verifies', async () => {
    const [a, b] = [await newWitness('bank-a/witness'), await newWitness('bank-b/witness')];
    const lines = [await cosign(note, a, 10), await cosign(note, b, 20)];
    const cosigned = withSignatures(withSignatures(note, lines), lines);
    expect(openNote(cosigned).signatures.length).toBe(3);
    await expect(verifyNote(cosigned, parseVerifierKey(log.verifierKey))).resolves.toBe(openNote(note).text);
    const witnesses = [a, b].map(({ verifierKey }) => parseWitnessKey(verifierKey));
    expect(await verifyWitnesses(cosigned, witnesses, 2)).toEqual([
      { name: 'bank-a/witness', time: 10 },
      { name: 'bank-b/witness', time: 20 },
    ]);
  });

  test('of a witness under two names, or given twice, counts once', async () => {
    const a = await newWitness('one');
    const key = parseWitnessKey(a.verifierKey);
    const other = encodeWitnessKey('two', key.publicKey);
    const cosigned = withSignatures(note, [
      await cosign(note, a, 1),
      await cosign(note, { ...a, verifierKey: other }, 1),
    ]);
    await expect(verifyWitnesses(cosigned, [key, key, parseWitnessKey(other)], 2)).rejects.toEqual(refused);
    expect((await verifyWitnesses(cosigned, [key, parseWitnessKey(other)], 1)).length).toBe(1);
  });

  test('fails for another note, time, witness, and for every changed bit', async () => {
    const a = await newWitness('bank-a/witness');
    const key = parseWitnessKey(a.verifierKey);
    const line = await cosign(note, a, 1_700_000_000);
    const later = await signCheckpoint(6, root, log);
    await expect(verifyCosignature(later, line, key)).rejects.toEqual(refused);
    const stranger = parseWitnessKey((await newWitness('bank-a/witness')).verifierKey);
    await expect(verifyCosignature(note, line, stranger)).rejects.toEqual(refused);
    // Safe: the line is one of ours.
    const blob = fromBase64(line.split(' ')[2])!;
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: blob.length * 8 - 1 }), async (bit) => {
        const changed = Uint8Array.from(blob);
        changed[bit >> 3] ^= 1 << (bit & 7);
        const spoiled = `— bank-a/witness ${Buffer.from(changed).toString('base64')}`;
        await expect(verifyCosignature(note, spoiled, key)).rejects.toEqual(refused);
      }),
      { numRuns: 120 },
    );
  });

  test('is no signature of the log, nor the other way round', async () => {
    const pair = await keys();
    const publicKey = new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey));
    const sign = async (bytes: Uint8Array) =>
      new Uint8Array(await crypto.subtle.sign('Ed25519', pair.privateKey, Uint8Array.from(bytes)));
    const witness = { verifierKey: encodeWitnessKey('x', publicKey), sign };
    const asLog = encodeVerifierKey('x', publicKey);
    const cosigned = withSignatures(note, [await cosign(note, witness, 1)]);
    await expect(verifyNote(cosigned, parseVerifierKey(asLog))).rejects.toEqual(refused);
    const own = await signCheckpoint(5, root, { origin: 'x', verifierKey: asLog, sign });
    await expect(verifyWitnesses(own, [parseWitnessKey(witness.verifierKey)], 1)).rejects.toEqual(refused);
    expect(() => parseWitnessKey(asLog)).toThrow(malformed);
    expect(() => parseVerifierKey(witness.verifierKey)).toThrow(malformed);
  });
});

describe('comparing two checkpoints', () => {
  test('of one size tells equal from equivocation, of two sizes neither', async () => {
    const same = await compareCheckpoints(note, note, log.verifierKey);
    expect(same).toMatchObject({ comparison: 'equal', verified: true, origin: 'demo/log' });
    const other = await signCheckpoint(5, new Uint8Array(32), log);
    expect(await compareCheckpoints(note, other, log.verifierKey)).toMatchObject({
      comparison: 'equivocation',
      verified: true,
    });
    expect(await compareCheckpoints(note, other)).toMatchObject({ comparison: 'equivocation', verified: false });
    const later = await signCheckpoint(6, root, log);
    expect(await compareCheckpoints(note, later, log.verifierKey)).toMatchObject({ comparison: 'undecided' });
  });

  test('proves nothing with a signature of another key, or of two logs', async () => {
    const imposter = await createLogSigner('demo/log', await keys());
    const forged = await signCheckpoint(5, new Uint8Array(32), imposter);
    await expect(compareCheckpoints(note, forged, log.verifierKey)).rejects.toEqual(refused);
    const elsewhere = await createLogSigner('other/log', await keys());
    await expect(compareCheckpoints(note, await signCheckpoint(5, root, elsewhere))).rejects.toEqual(malformed);
  });
});
