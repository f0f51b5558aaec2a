/** Fixtures of the encryption tests: seeded randomness, models, headers, and the attacker's view of its own ciphertexts. */
import type { Encryption, FrameHeader, LayoutName, SecretKey, SparseVector } from '../../src/encryption/encryption.ts';
import type { LinearModel } from '../../src/encryption/model.ts';
import type { RandomSource } from '../../src/random.ts';

/** xoshiro128** seeded by splitmix32: repeatable, for tests only. */
export function seededRandom(seed: number): RandomSource & { unit(): number } {
  let mix = seed >>> 0;
  const split = () => {
    mix = (mix + 0x9e3779b9) >>> 0;
    let z = mix;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return (z ^ (z >>> 16)) >>> 0;
  };
  const s = Uint32Array.from({ length: 4 }, split);
  const rotate = (x: number, by: number) => ((x << by) | (x >>> (32 - by))) >>> 0;
  const nextUint32 = () => {
    const result = Math.imul(rotate(Math.imul(s[1], 5), 7), 9) >>> 0;
    const t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 11);
    return result;
  };
  return {
    nextUint32,
    fill: (out) => {
      for (let i = 0; i < out.length; i++) out[i] = nextUint32() & 255;
    },
    unit: () => nextUint32() / 2 ** 32,
  };
}

export function modelOf(weights: ArrayLike<number>, intercept = 0, name = 'ab'): LinearModel {
  return { hash: name.repeat(32), weights: Float64Array.from(weights), intercept };
}

export function headerOf(key: SecretKey, model: LinearModel, layout: LayoutName, transactions: number): FrameHeader {
  return {
    preset: key.preset,
    layout,
    transactions,
    dimension: model.weights.length,
    keyId: key.keyId,
    contractHash: 'cd'.repeat(32),
    modelHash: model.hash,
  };
}

export function exactLogit(model: LinearModel, vector: SparseVector): number {
  return vector.reduce((sum, [j, x]) => sum + model.weights[j] * x, model.intercept);
}

/** One reply through the real code; returns what the caller sees. */
export function roundTrip(
  encryption: Encryption,
  key: SecretKey,
  scorer: ReturnType<Encryption['openScorer']>,
  model: LinearModel,
  layout: LayoutName,
  vectors: readonly SparseVector[],
): { logits: Float64Array; request: Uint8Array; reply: Uint8Array; header: FrameHeader; worst: number } {
  const header = headerOf(key, model, layout, vectors.length);
  const request = encryption.encryptRequest(key, header, vectors);
  const reply = scorer.score(model, key.publicKey, request);
  const logits = encryption.decryptReply(key, header, reply);
  const worst = vectors.reduce((most, v, i) => Math.max(most, Math.abs(logits[i] - exactLogit(model, v))), 0);
  return { logits, request, reply, header, worst };
}
