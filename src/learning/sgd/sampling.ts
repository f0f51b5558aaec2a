/**
 * Poisson sampling: every record is in the batch independently with the same probability.
 *
 * Exact: the probability is threshold / 2^32 and nothing else. A uniform real is revealed byte by byte, most
 * significant first, and compared with the threshold's bytes; all but one record in 256 are decided by the first byte
 * that differs, so a pass costs about one random byte per record. The batch size that results is itself private: it
 * is never returned, divided by or timed for anyone (Abadi et al. 2016, section 3.1; Balle, Barthe, Gaboardi 2018).
 */
import { PrivacyError } from '../../errors.ts';
import type { RandomSource } from '../../random.ts';

const TWO_32 = 2 ** 32;
const BUFFER_BYTES = 65_536;

/** The largest multiple of 2^-32 that is at most `wanted`, at least 2^-32: the rate that is drawn and accounted. */
export function exactRate(wanted: number): number {
  if (!(wanted > 0))
    throw new PrivacyError('PRIVACY_PARAMETER', 'a sampling rate must be positive', { where: 'batch' });
  return Math.max(1, Math.floor(Math.min(1, wanted) * TWO_32)) / TWO_32;
}

export interface PoissonSampler {
  /** Writes the sampled row numbers, ascending, to `out` (at least `rows` long) and returns how many there are. */
  sample(rows: number, out: Int32Array): number;
}

/** @param rate a multiple of 2^-32 in (0, 1], as `exactRate` gives. @throws PrivacyError PRIVACY_PARAMETER. */
export function poissonSampler(rate: number, random: RandomSource): PoissonSampler {
  const threshold = rate * TWO_32;
  if (!Number.isInteger(threshold) || threshold < 1 || threshold > TWO_32) {
    throw new PrivacyError('PRIVACY_PARAMETER', 'a sampling rate must be a multiple of 2^-32 in (0, 1]', {
      where: 'samplingRate',
    });
  }
  const digits = [threshold >>> 24, (threshold >>> 16) & 255, (threshold >>> 8) & 255, threshold & 255];
  const first = digits[0];
  const buffer = new Uint8Array(BUFFER_BYTES);
  let next = BUFFER_BYTES;

  function byte(): number {
    if (next === BUFFER_BYTES) {
      random.fill(buffer);
      next = 0;
    }
    return buffer[next++];
  }

  /** The first byte equals the threshold's: the others decide. */
  function decide(): boolean {
    for (let i = 1; i < 4; i++) {
      const drawn = byte();
      if (drawn !== digits[i]) return drawn < digits[i];
    }
    return false;
  }

  return {
    sample(rows, out) {
      let count = 0;
      for (let row = 0; row < rows; row++) {
        if (threshold === TWO_32) out[count++] = row;
        else {
          const drawn = byte();
          if (drawn < first || (drawn === first && decide())) out[count++] = row;
        }
      }
      return count;
    },
  };
}
