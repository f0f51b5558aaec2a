/**
 * The model state of a round on the wire, and its hash: what every site must have trained on.
 *
 * State hash = SHA-256("veilrisk/state/v1" || intercept || weights), numbers as IEEE 754 binary64, little endian, in
 * contract order. An update names the hash of the state it belongs to, so sites given different models are noticed.
 */

import { FederationError } from '../../src/errors.ts';
import { sha256 } from './canonical.ts';

const DOMAIN = new TextEncoder().encode('veilrisk/state/v1');

export interface Weights {
  intercept: number;
  /** One weight per bin, all fields one after the other; empty in round 0. */
  flat: Float64Array;
}

export const NO_WEIGHTS: Weights = { intercept: 0, flat: new Float64Array(0) };

export function encodeWeights(flat: Float64Array): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(flat.length * 8);
  const view = new DataView(out.buffer);
  flat.forEach((weight, index) => {
    view.setFloat64(index * 8, weight, true);
  });
  return out;
}

/** Throws MESSAGE_MALFORMED unless the bytes are whole, finite numbers. */
export function decodeWeights(bytes: Uint8Array): Float64Array {
  if (bytes.length % 8 !== 0) throw malformed('are not whole numbers');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const flat = new Float64Array(bytes.length / 8);
  for (let index = 0; index < flat.length; index++) {
    flat[index] = view.getFloat64(index * 8, true);
    if (!Number.isFinite(flat[index])) throw malformed('are not finite');
  }
  return flat;
}

/** 32 bytes. */
export function stateHash({ intercept, flat }: Weights): Uint8Array<ArrayBuffer> {
  return sha256(DOMAIN, encodeWeights(Float64Array.of(intercept)), encodeWeights(flat));
}

function malformed(what: string): FederationError {
  return new FederationError('MESSAGE_MALFORMED', `The weights of the round ${what}.`, { where: 'weights' });
}
