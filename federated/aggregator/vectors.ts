/**
 * The numbers in stored updates: kept in memory as they come, read from their rows when they are not there, and their
 * exact sums. Sums of at most 100 integers within 2^46 are exact in binary64, so neither order nor process changes them.
 */

import { fromBinary } from '@bufbuild/protobuf';
import { FederationError, SecaggError } from '../../src/errors.ts';
import { envelopeFrom } from '../protocol/envelope.ts';
import { type MaskedInput, type Update, UpdateSchema } from '../protocol/generated/veilrisk_pb.js';
import { decodeHistogram } from '../protocol/histogram.ts';
import { unpackVector } from '../secagg/ring.ts';
import type { Board } from './board.ts';
import type { Course } from './course.ts';
import type { Database } from './store/database.ts';
import { loadEnvelopes } from './store/plans.ts';

/** Of all plans together; what does not fit is read again from the database. */
const KEPT_BYTES = 128 * 1024 * 1024;

/** A histogram's integers, or a packed masked input. */
export type Vector = Float64Array | Uint8Array;

export class Vectors {
  readonly #database: Database;
  /** Least recently used first. */
  readonly #kept = new Map<string, Vector>();
  #bytes = 0;

  constructor(database: Database) {
    this.#database = database;
  }

  /** @param attempt 0 in a plain round. */
  keep(planId: string, round: number, attempt: number, site: string, vector: Vector): void {
    this.#put(`${planId}/${round}/${attempt}/${site}`, vector);
  }

  forget(planId: string): void {
    for (const [key, vector] of this.#kept) if (key.startsWith(`${planId}/`)) this.#drop(key, vector);
  }

  /** Exact coordinate-wise sum of the named sites' histograms of a plain round; all of them must be stored. */
  async sum(board: Board, round: number, sites: readonly string[]): Promise<Float64Array> {
    const total = new Float64Array(board.course.dimension(round));
    const vectors = await this.#read(board, round, 0, sites, (update) => histogramOf(board.course, update));
    for (const values of vectors.values()) {
      for (let index = 0; index < total.length; index++) total[index] += values[index];
    }
    return total;
  }

  /** The named members' inputs of one attempt at a masked round, packed; all of them must be stored. */
  async inputs(
    board: Board,
    round: number,
    attempt: number,
    sites: readonly string[],
  ): Promise<Map<string, Uint8Array>> {
    // Safe: what is kept of an attempt at a masked round is its inputs.
    return (await this.#read(board, round, attempt, sites, inputOf)) as Map<string, Uint8Array>;
  }

  async #read(
    board: Board,
    round: number,
    attempt: number,
    sites: readonly string[],
    decode: (update: Update) => Vector,
  ): Promise<Map<string, Vector>> {
    const planId = board.plan.id;
    const key = (site: string) => `${planId}/${round}/${attempt}/${site}`;
    const found = new Map<string, Vector>();
    for (const site of sites) {
      const vector = this.#kept.get(key(site));
      if (vector === undefined) continue;
      found.set(site, vector);
      // Moves it to the end.
      this.#kept.delete(key(site));
      this.#kept.set(key(site), vector);
    }
    const missing = sites.filter((site) => !found.has(site));
    if (missing.length === 0) return found;
    const step = { planId, kind: 'update' as const, round, attempt };
    const stored = await loadEnvelopes(this.#database.pool, step, missing);
    for (const site of missing) {
      const envelope = stored.get(site);
      if (envelope === undefined) {
        throw new FederationError('ROUND_MISMATCH', 'A contributing site has no stored update.', {
          where: `round ${round}`,
        });
      }
      const vector = decode(fromBinary(UpdateSchema, envelopeFrom(envelope).body));
      found.set(site, vector);
      this.#put(key(site), vector);
    }
    return found;
  }

  #put(key: string, vector: Vector): void {
    const before = this.#kept.get(key);
    if (before !== undefined) this.#drop(key, before);
    this.#kept.set(key, vector);
    this.#bytes += vector.byteLength;
    for (const [oldest, dropped] of this.#kept) {
      if (this.#bytes <= KEPT_BYTES) break;
      this.#drop(oldest, dropped);
    }
  }

  #drop(key: string, vector: Vector): void {
    this.#kept.delete(key);
    this.#bytes -= vector.byteLength;
  }
}

/** The update's exact integers. Throws MESSAGE_MALFORMED for a wrong dimension or encoding. */
export function histogramOf(course: Course, update: Update): Float64Array {
  const { outcome } = update;
  if (outcome.case !== 'histogram') {
    throw new FederationError('MESSAGE_MALFORMED', 'The update holds no histogram and no refusal.', {
      where: 'outcome',
    });
  }
  const dimension = course.dimension(update.round);
  if (outcome.value.dimension !== dimension) {
    throw new FederationError('MESSAGE_MALFORMED', `The histogram must have ${dimension} coordinates.`, {
      where: 'histogram.dimension',
    });
  }
  return decodeHistogram(outcome.value.values, dimension);
}

/** Throws MESSAGE_MALFORMED unless the input has the round's dimension, ring and encoding. */
export function checkInput(course: Course, round: number, input: MaskedInput): void {
  const dimension = course.dimension(round);
  const bits = course.ringBits(round);
  if (input.dimension !== dimension || input.bits !== bits) {
    throw new FederationError('MESSAGE_MALFORMED', `The input must have ${dimension} coordinates of ${bits} bits.`, {
      where: 'masked.dimension',
    });
  }
  try {
    unpackVector(input.values, dimension, bits);
  } catch (cause) {
    if (!(cause instanceof SecaggError)) throw cause;
    throw new FederationError('MESSAGE_MALFORMED', cause.message, { where: 'masked.values', cause });
  }
}

function inputOf({ outcome }: Update): Uint8Array {
  if (outcome.case === 'masked') return outcome.value.values;
  throw new FederationError('MESSAGE_MALFORMED', 'The update holds no masked input.', { where: 'outcome' });
}
