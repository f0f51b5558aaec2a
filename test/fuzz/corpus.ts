/**
 * Valid messages to mutate, made from a seed alone so that a run can be repeated: SEAL's own randomness cannot be seeded,
 * but any residues below their primes behind the right preamble are a ciphertext or a key that every check accepts.
 */
import { deflateSync, zstdCompressSync } from 'node:zlib';
import { publicKeyShape, uploadShape } from '../../src/encryption/preamble.ts';
import type { Preset } from '../../src/encryption/presets.ts';
import {
  bytesOf,
  CIPHERTEXT_PREAMBLE_BYTES,
  type PolynomialShape,
  plaintextBytes,
  SEED_TRAILER_BYTES,
  seededBytes,
  seededPreamble,
  seedPreamble,
} from '../../src/encryption/sealBytes.ts';
import { exportSecretKey, SecretKey } from '../../src/encryption/secretKey.ts';
import { type FrameHeader, type LayoutName, replyCounts, rowCounts, writeFrame } from '../../src/encryption/wire.ts';
import type { seededRandom } from '../encryption/support.ts';

type Random = ReturnType<typeof seededRandom>;
export type Kind = 'request' | 'reply' | 'public key' | 'exported key' | 'key file';

export interface Message {
  readonly kind: Kind;
  readonly bytes: Uint8Array;
  /** Offsets and widths of its numbers, where edits hurt most. */
  readonly fields: readonly (readonly [at: number, width: number])[];
  /** Of a reply: what it answers. */
  readonly header?: FrameHeader;
}

export interface Corpus {
  readonly key: SecretKey;
  readonly messages: readonly Message[];
  /** Compressed objects and runs of bytes that other formats use: material for splices. */
  readonly foreign: readonly Uint8Array[];
}

/** Numbers of a seeded SEAL object, relative to its start: header, lengths, counts, scale, trailer. */
const SEEDED_NUMBERS = [
  [0, 2],
  [2, 1],
  [3, 1],
  [4, 1],
  [5, 1],
  [6, 2],
  [8, 8],
  [16, 8],
  [48, 1],
  [49, 8],
  [57, 8],
  [65, 8],
  [73, 8],
  [81, 8],
  [89, 2],
  [94, 1],
  [97, 8],
  [105, 8],
  [113, 8],
] as const;
const FRAME_NUMBERS = [
  [0, 4],
  [4, 1],
  [5, 1],
  [6, 1],
  [7, 1],
  [8, 4],
  [12, 4],
  [16, 4],
  [20, 4],
  [24, 1],
  [88, 1],
  [120, 4],
] as const;

export const DIMENSION = 350;
export const MODEL_HASH = 'ab'.repeat(32);

export function openCorpus(preset: Preset, random: Random): Corpus {
  const key = keyOf(preset, random);
  const header = (layout: LayoutName, transactions: number, dimension = DIMENSION): FrameHeader => ({
    ...{ preset: preset.name, layout, transactions, dimension },
    ...{ keyId: key.keyId, contractHash: 'cd'.repeat(32), modelHash: MODEL_HASH },
  });
  const ciphertext = () => seeded(uploadShape(preset), preset, random);
  const request = (of: FrameHeader): Message => {
    const parts = Array.from({ length: of.layout === 'row' ? rowCounts(of).length : of.dimension }, ciphertext);
    const first = 120 + 4 * parts.length;
    const last = first + (parts.length - 1) * parts[0].length;
    return {
      kind: 'request',
      bytes: writeFrame('request', of, parts),
      fields: [...FRAME_NUMBERS, ...shifted(first), ...shifted(last), [last + parts[0].length - 81, 1]],
    };
  };
  const reply = (of: FrameHeader): Message => {
    const parts = replyCounts(of).map((count) => bytesOf(residues([preset.primes[0]], count + preset.degree, random)));
    const first = 120 + 4 * parts.length;
    return {
      kind: 'reply',
      bytes: writeFrame('reply', of, parts),
      fields: [...FRAME_NUMBERS, [first, 8], [first + 8, 8]],
      header: of,
    };
  };
  const small = header('row', 1);
  const packed = header('row', 12);
  const column = header('column', 5, 2);
  const publicKey: Message = { kind: 'public key', bytes: key.publicKey, fields: SEEDED_NUMBERS };
  const exported: Message = {
    kind: 'exported key',
    bytes: exportSecretKey(key),
    fields: [[0, 4], [4, 1], [5, 1], [6, 2], [8, 4], [12, 4], ...shifted(16), ...shifted(16 + key.publicKey.length)],
  };
  return {
    key,
    messages: [request(small), request(packed), request(column), reply(small), reply(packed), reply(column)].concat(
      publicKey,
      exported,
    ),
    foreign: [deflateSync(ciphertext()), zstdCompressSync(new Uint8Array(1 << 20)), new Uint8Array(4096)],
  };
}

function shifted(by: number): (readonly [number, number])[] {
  return SEEDED_NUMBERS.map(([at, width]) => [at + by, width] as const);
}

function keyOf(preset: Preset, random: Random): SecretKey {
  const shape = publicKeyShape(preset);
  const secret = plaintextBytes(shape, residues(preset.primes, preset.degree, random));
  return new SecretKey(preset.name, seeded(shape, preset, random), secret);
}

function seeded(shape: PolynomialShape, preset: Preset, random: Random): Uint8Array {
  const out = new Uint8Array(seededBytes(shape));
  random.fill(out);
  out.set(seededPreamble(shape));
  out.set(bytesOf(residues(preset.primes.slice(0, shape.primes), preset.degree, random)), CIPHERTEXT_PREAMBLE_BYTES);
  out.set(seedPreamble(), out.length - SEED_TRAILER_BYTES);
  return out;
}

function residues(primes: readonly bigint[], degree: number, random: Random): BigUint64Array {
  return BigUint64Array.from({ length: primes.length * degree }, (_, i) => {
    const word = (BigInt(random.nextUint32()) << 32n) | BigInt(random.nextUint32());
    return word % primes[Math.floor(i / degree)];
  });
}
