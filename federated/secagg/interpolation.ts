/**
 * Shamir's reconstruction over GF(256) (AES's polynomial x^8 + x^4 + x^3 + x + 1): the polynomial through all shares, at
 * zero or at another place. Shares are as the library `shamir-secret-sharing` makes them: bytes, then the x coordinate.
 *
 * Why not the library's `combine`: it computes the same Lagrange coefficients once for each byte, 32 times more work; with
 * 100 sites that is most of what unmasking costs. A test holds this to the library. The library does all splitting.
 * Limit: table look-ups are not constant time; what is reconstructed here is being opened to whoever runs it.
 */

const POLYNOMIAL = 0x11b;
const EXP = new Uint8Array(510);
const LOG = new Uint8Array(256);
for (let power = 0, value = 1; power < 255; power++) {
  EXP[power] = value;
  EXP[power + 255] = value;
  LOG[value] = power;
  // Times the generator x + 1.
  value ^= value << 1;
  if (value > 0xff) value ^= POLYNOMIAL;
}

/**
 * @param shares of equal length of at least 2, with distinct last bytes; at least one.
 * @param place x coordinate at which the polynomial is wanted: the secret is at zero.
 */
export function interpolate(shares: readonly Uint8Array[], place = 0): Uint8Array<ArrayBuffer> {
  const length = shares[0].length - 1;
  const places = Uint8Array.from(shares, (share) => share[length]);
  const out = new Uint8Array(length);
  for (let at = 0; at < shares.length; at++) {
    const share = shares[at];
    const log = coefficientLog(places, at, place);
    if (log < 0) continue;
    for (let byte = 0; byte < length; byte++) if (share[byte] !== 0) out[byte] ^= EXP[LOG[share[byte]] + log];
  }
  return out;
}

/** Logarithm of the Lagrange coefficient at x, the product of (x - x_j) / (x_i - x_j); -1 when it is zero. */
function coefficientLog(places: Uint8Array, at: number, place: number): number {
  let log = 0;
  for (let other = 0; other < places.length; other++) {
    if (other === at) continue;
    const distance = places[other] ^ place;
    if (distance === 0) return -1;
    log += LOG[distance] + 255 - LOG[places[other] ^ places[at]];
  }
  return log % 255;
}
