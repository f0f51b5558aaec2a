/**
 * Signed integers as residues modulo the data primes, and back.
 *
 * Source: residue number system of SEAL (CKKS, `rns.h`); a polynomial at a level of k primes is k runs of N residues.
 * Limit: BigInt arithmetic, not constant time; what passes here is public to the side that computes it.
 */
import { EncryptionError } from '../errors.ts';

/** value mod prime in [0, prime). */
export function residueOf(value: bigint, prime: bigint): bigint {
  const rest = value % prime;
  return rest < 0n ? rest + prime : rest;
}

/** The representative of a residue in (-prime/2, prime/2), as a double; exact up to 2^53. */
export function centred(residue: bigint, prime: bigint): number {
  return Number(residue > prime / 2n ? residue - prime : residue);
}

/** A polynomial of sparse integer coefficients. @param coefficients pairs of index below `degree` and value */
export function polynomialOf(
  degree: number,
  primes: readonly bigint[],
  coefficients: Iterable<readonly [number, bigint]>,
): BigUint64Array {
  const out = new BigUint64Array(primes.length * degree);
  for (const [index, value] of coefficients) {
    for (let p = 0; p < primes.length; p++) out[p * degree + index] = residueOf(value, primes[p]);
  }
  return out;
}

/**
 * The integer nearest to value * 2^bits.
 *
 * @throws EncryptionError ENCRYPTION_INPUT when the value is not finite
 */
export function scaled(value: number, bits: number): bigint {
  if (!Number.isFinite(value)) {
    throw new EncryptionError('ENCRYPTION_INPUT', 'a value is not a finite number', { where: 'vector' });
  }
  // Safe: multiplying by a power of two is exact; a double of 2^53 or more is an integer, a smaller one rounds exactly.
  const exact = value * 2 ** bits;
  return BigInt(Math.abs(exact) >= 2 ** 53 ? exact : Math.round(exact));
}
