/**
 * Encrypted scoring with CKKS ciphertexts: what other rooms import.
 *
 * A caller encrypts its transaction, the service computes intercept + w . x without reading x, and the reply tells the
 * caller the logit and nothing else of w. Layouts and bytes: FORMAT.md. Who learns what: THREATS.md.
 */
import type { RandomSource } from '../random.ts';
import {
  createKeys,
  decryptReply,
  decryptSteps,
  encryptRequest,
  encryptSteps,
  type SparseVector,
  type Steps,
} from './caller.ts';
import { checkPublicKey } from './preamble.ts';
import type { Preset, PresetName } from './presets.ts';
import { openScorer, type Scorer } from './scorer.ts';
import { attempt, Scope, sealRuntime } from './seal.ts';
import { keyIdOf, type SecretKey } from './secretKey.ts';
import type { FrameHeader } from './wire.ts';

export type { SparseVector, Steps } from './caller.ts';
export type { LinearModel } from './model.ts';
export {
  floodMarginBits,
  LOGIT_ERROR_CONTRACT,
  MAX_ABS_INTERCEPT,
  MAX_ABS_WEIGHT,
  MAX_INPUT_MASS,
  PRESETS,
  type Preset,
  type PresetName,
  rowCapacity,
} from './presets.ts';
export type { Scorer } from './scorer.ts';
export { exportSecretKey, importSecretKey, keyIdOf, SecretKey } from './secretKey.ts';
export {
  type FrameHeader,
  type LayoutName,
  largestRequestBytes,
  MEDIA_TYPE,
  maxTransactions,
  readFrameHeader,
  requestBytes,
} from './wire.ts';

export interface Encryption {
  readonly preset: Preset;
  createKeys(): SecretKey;
  /** A request frame; see `encryptRequest` in caller.ts. */
  encryptRequest(key: SecretKey, header: FrameHeader, vectors: readonly SparseVector[]): Uint8Array;
  /** The same one ciphertext a step. */
  encryptSteps(key: SecretKey, header: FrameHeader, vectors: readonly SparseVector[]): Steps<Uint8Array>;
  /** Raw logits, one a transaction: never to be sent anywhere (IND-CPA-D, THREATS.md). */
  decryptReply(key: SecretKey, sent: FrameHeader, reply: Uint8Array): Float64Array;
  /** The same one ciphertext a step. */
  decryptSteps(key: SecretKey, sent: FrameHeader, reply: Uint8Array): Steps<Float64Array>;
  /** @param random source of the flood; it must be cryptographic outside tests */
  openScorer(random: RandomSource): Scorer;
}

/** Loads SEAL (once a thread) and opens a preset. */
export async function openEncryption(name: PresetName): Promise<Encryption> {
  const runtime = await sealRuntime(name);
  return {
    preset: runtime.preset,
    createKeys: () => createKeys(runtime),
    encryptRequest: (key, header, vectors) => encryptRequest(runtime, key, header, vectors),
    encryptSteps: (key, header, vectors) => encryptSteps(runtime, key, header, vectors),
    decryptReply: (key, sent, reply) => decryptReply(runtime, key, sent, reply),
    decryptSteps: (key, sent, reply) => decryptSteps(runtime, key, sent, reply),
    openScorer: (random) => openScorer(runtime, random),
  };
}

/**
 * Checks foreign bytes, then lets SEAL load them.
 *
 * @throws EncryptionError PUBLIC_KEY_MALFORMED, PUBLIC_KEY_DEGENERATE
 */
export async function inspectPublicKey(bytes: Uint8Array): Promise<{ keyId: string; preset: PresetName }> {
  const preset = checkPublicKey(bytes);
  const runtime = await sealRuntime(preset.name);
  using scope = new Scope();
  const key = scope.own(new runtime.seal.PublicKey());
  attempt('PUBLIC_KEY_MALFORMED', 'public key', () => key.loadFromArray(runtime.context, bytes));
  return { keyId: keyIdOf(bytes), preset: preset.name };
}
