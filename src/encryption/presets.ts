/**
 * The two parameter sets, the house's own security table and the public limits of encrypted scoring.
 *
 * Source: largest log2 q for 128-bit classical security at ternary secrets, Bossuat et al., "Security Guidelines for
 * Implementing Homomorphic Encryption", eprint 2024/463, table 5.2. SEAL's built-in table is older and accepts 109 bits
 * at N = 4096; this one is enforced in addition.
 * Limit: the table is about recovering the secret key. What a reply may tell about the model rests on the flood; the
 * arithmetic is in THREATS.md.
 */
import { EncryptionError } from '../errors.ts';

export type PresetName = 'standard' | 'conservative';

export interface Preset {
  readonly name: PresetName;
  /** Code of the preset on the wire. */
  readonly code: 1 | 2;
  /** Ring degree: coefficients of a polynomial, hence transactions of a column ciphertext. */
  readonly degree: number;
  /** Coefficient primes: two for data, dropped from the right, then the special prime that only keys carry. */
  readonly primes: readonly [bigint, bigint, bigint];
  readonly primeBits: readonly [number, number, number];
  /** A feature value x is the integer x * 2^inputBits in its coefficient. */
  readonly inputBits: number;
  /** A weight w is the integer round(w * 2^weightBits). */
  readonly weightBits: number;
  /** The flood is a discrete Gaussian with deviation 2^floodBits on the scale of the product. */
  readonly floodBits: number;
  /** SEAL's parms_id (BLAKE2b of the parameters) at key level, at the level of uploads and at that of replies. */
  readonly keyParmsId: string;
  readonly uploadParmsId: string;
  readonly replyParmsId: string;
}

/** Largest total bits of the coefficient primes for 128-bit security, by ring degree. */
const LARGEST_LOG_Q: Readonly<Record<number, number>> = { 2048: 53, 4096: 106, 8192: 214, 16384: 430 };

/** Public constant: every weight of a servable model is in [-8, 8], so that the flood depends on no model. */
export const MAX_ABS_WEIGHT = 8;
/** Public constant: the intercept of a servable model is in [-64, 64]. */
export const MAX_ABS_INTERCEPT = 64;
/** A transaction's absolute feature values sum to at most this; for a one-hot vector, the number of fields. */
export const MAX_INPUT_MASS = 56;
/** Largest |logit| that the two limits above allow; half the range that a reply can carry on either preset is more. */
export const MAX_ABS_LOGIT = MAX_ABS_WEIGHT * MAX_INPUT_MASS + MAX_ABS_INTERCEPT;
/** The contract of both layouts: |decrypted logit - exact logit| stays below. */
export const LOGIT_ERROR_CONTRACT = 2e-3;

/** Standard deviation of SEAL's error distribution (a centred binomial of 21 coin pairs: sqrt(10.5)). */
export const ERROR_DEVIATION = 3.25;

export const PRESETS: Readonly<Record<PresetName, Preset>> = {
  standard: {
    name: 'standard',
    code: 1,
    degree: 4096,
    primes: [35184371884033n, 17592186028033n, 114689n],
    primeBits: [45, 44, 17],
    inputBits: 62,
    weightBits: 16,
    floodBits: 65,
    keyParmsId: '8bddde9b1561c8c9bf1d4ea9e8050f3facf7d540cf02293bc802cf179f6c40a7',
    uploadParmsId: '35d4af8a14784835b9d8411e53650a799dc25a8f27e5a89e78eac2ea26bcd085',
    replyParmsId: 'b9f021c6986a11ba2b3dda59fe0a34ea4f4f2254a9c5e88b9a46aad1c02f264a',
  },
  conservative: {
    name: 'conservative',
    code: 2,
    degree: 8192,
    primes: [36028797017571329n, 36028797018652673n, 1032193n],
    primeBits: [55, 55, 20],
    inputBits: 76,
    weightBits: 20,
    floodBits: 80,
    keyParmsId: 'e2ffd0af70c71cad3b12ce8be3218786284ef8131bbb434a6cca3243d6c20500',
    uploadParmsId: 'e38cb6b9249584f28522f75ebd7755128cd763ce1b50924f54b183127f54f91e',
    replyParmsId: '33dbe434e11a8a52c65c4228e02f06d581c3a5f5ae87c16f4b8ea42cddd0d922',
  },
};

/**
 * Refuses parameters outside the security table.
 *
 * @param primeBits bits of every coefficient prime, the special one included
 * @throws EncryptionError ENCRYPTION_PARAMETER
 */
export function assertSecure(degree: number, primeBits: readonly number[]): void {
  const allowed = LARGEST_LOG_Q[degree];
  const total = primeBits.reduce((sum, bits) => sum + bits, 0);
  if (allowed !== undefined && total <= allowed) return;
  throw new EncryptionError('ENCRYPTION_PARAMETER', 'the parameters are below 128-bit security', {
    where: `N = ${degree}, ${total} bits`,
    fix: allowed === undefined ? 'Use N of 2048 to 16384.' : `Use at most ${allowed} bits at N = ${degree}.`,
  });
}

export function presetByCode(code: number): Preset | undefined {
  return Object.values(PRESETS).find((preset) => preset.code === code);
}

/** Bits of the scale of a product, before it is rescaled. */
export function productBits(preset: Preset): number {
  return preset.inputBits + preset.weightBits;
}

/** A reply's integer divided by this is the logit: the product's scale over the prime that rescaling drops. */
export function replyScale(preset: Preset): number {
  return 2 ** productBits(preset) / Number(preset.primes[1]);
}

/** Transactions that one row ciphertext holds. @param dimension 1 to N */
export function rowCapacity(preset: Preset, dimension: number): number {
  return Math.floor(preset.degree / dimension);
}

/**
 * log2 of the flood's deviation over the deviation of e * w, worst over the allowed weights, for fresh seeded
 * ciphertexts. At least 36 at every dimension up to N, and 40 for the dimensions of the bundled contracts.
 */
export function floodMarginBits(preset: Preset, dimension: number): number {
  const worst = ERROR_DEVIATION * MAX_ABS_WEIGHT * 2 ** preset.weightBits * Math.sqrt(dimension);
  return preset.floodBits - Math.log2(worst);
}
