/**
 * One case of encrypted scoring on one thread, step by step, beside a server that only multiplies.
 *
 * The reference loads, multiplies, adds and saves through the same library and leaves out everything that protects the
 * model and every check of foreign bytes, so the ratio is the price of those. It is measured in turns with the server,
 * so that another load of the machine hits both.
 */
import type { Encryption, LayoutName, SecretKey, SparseVector } from '../../../src/encryption/encryption.ts';
import { columnWeight, type LinearModel, rowWeights } from '../../../src/encryption/model.ts';
import { loadPlaintext, Scope, sealRuntime } from '../../../src/encryption/seal.ts';
import { readFrame } from '../../../src/encryption/wire.ts';
import { systemRandom } from '../../../src/random.ts';
import { exactLogit, headerOf, modelOf, seededRandom } from '../../encryption/support.ts';

export interface Case {
  encryption: Encryption;
  key: SecretKey;
  layout: LayoutName;
  dimension: number;
  transactions: number;
  /** Numeric: every dimension has a value in [-1, 1]. Otherwise so many fields, each one-hot. */
  fields: number | 'numeric';
  runs: number;
}

/** Milliseconds of each run of each step, and what was seen on the way. */
export interface Timings {
  /** The encryption of zero was prepared before. */
  server: number[];
  /** The encryption of zero is made within the request. */
  unpooled: number[];
  reference: number[];
  encrypt: number[];
  decrypt: number[];
  up: number;
  down: number;
  worstError: number;
}

const random = seededRandom(2026);

/** Weights over the whole allowed range. */
export function anyModel(dimension: number): LinearModel {
  return modelOf(
    Array.from({ length: dimension }, () => 16 * random.unit() - 8),
    -2,
  );
}

export function anyVectors(dimension: number, transactions: number, fields: Case['fields']): SparseVector[] {
  const numeric = (): SparseVector => Array.from({ length: dimension }, (_, k) => [k, 2 * random.unit() - 1] as const);
  const oneHot = (count: number): SparseVector =>
    Array.from({ length: count }, (_, k) => {
      const [first, next] = [Math.floor((k * dimension) / count), Math.floor(((k + 1) * dimension) / count)];
      return [first + Math.floor(random.unit() * (next - first)), 1] as const;
    });
  return Array.from({ length: transactions }, () => (fields === 'numeric' ? numeric() : oneHot(fields)));
}

/** @param share 0 to 1 */
export function percentile(times: readonly number[], share: number): number {
  return times.toSorted((a, b) => a - b)[Math.min(times.length - 1, Math.floor(share * times.length))];
}

export const median = (times: readonly number[]) => percentile(times, 0.5);

/** A fifth as many runs come first and are not counted. */
export async function measure(one: Case): Promise<Timings> {
  const { encryption, key, layout, dimension, transactions, fields, runs } = one;
  const model = anyModel(dimension);
  const vectors = anyVectors(dimension, transactions, fields);
  const header = headerOf(key, model, layout, transactions);
  // The second is never given time to prepare encryptions of zero.
  const [pooled, dry] = [encryption.openScorer(systemRandom()), encryption.openScorer(systemRandom())];
  using scope = new Scope();
  const multiply = await openReference(one, model, scope);
  let request = encryption.encryptRequest(key, header, vectors);
  let reply = pooled.score(model, key.publicKey, request);
  const steps: [keyof Omit<Timings, 'up' | 'down' | 'worstError'>, () => void][] = [
    ['encrypt', () => (request = encryption.encryptRequest(key, header, vectors))],
    ['reference', () => multiply(request)],
    ['unpooled', () => (reply = dry.score(model, key.publicKey, request))],
    ['server', () => (reply = pooled.score(model, key.publicKey, request))],
    ['decrypt', () => encryption.decryptReply(key, header, reply)],
  ];
  const times: Pick<Timings, 'server' | 'unpooled' | 'reference' | 'encrypt' | 'decrypt'> = {
    ...{ encrypt: [], reference: [], unpooled: [], server: [], decrypt: [] },
  };
  const warm = Math.ceil(runs / 5);
  for (let run = 0; run < warm + runs; run++) {
    pooled.refill();
    for (const [name, step] of steps) {
      const start = performance.now();
      step();
      if (run >= warm) times[name].push(performance.now() - start);
    }
  }
  const logits = encryption.decryptReply(key, header, reply);
  const worstError = vectors.reduce((most, v, i) => Math.max(most, Math.abs(logits[i] - exactLogit(model, v))), 0);
  for (const scorer of [pooled, dry]) scorer.close();
  return { ...times, up: request.length, down: reply.length, worstError };
}

/** Loading, multiplying, adding and saving, and nothing else. */
async function openReference(
  { encryption, layout }: Case,
  model: LinearModel,
  scope: Scope,
): Promise<(request: Uint8Array) => void> {
  const runtime = await sealRuntime(encryption.preset.name);
  const { seal, context, evaluator, preset } = runtime;
  const row = scope.own(loadPlaintext(runtime, rowWeights(runtime, model)));
  const term = scope.own(new seal.Ciphertext());
  const sum = scope.own(new seal.Ciphertext());
  const weight = scope.own(new seal.Plaintext());
  return (request) => {
    for (const [j, part] of readFrame('request', request).parts.entries()) {
      term.loadFromArray(context, part);
      if (layout === 'row') {
        evaluator.multiplyPlainInplace(term, row);
        term.saveToArray(seal.ComprModeType.none);
        continue;
      }
      weight.loadFromArray(context, columnWeight(preset, model.weights[j]));
      evaluator.multiplyPlainInplace(term, weight);
      if (j === 0) sum.assign(term);
      else evaluator.addInplace(sum, term);
    }
    if (layout === 'column') sum.saveToArray(seal.ComprModeType.none);
  };
}
