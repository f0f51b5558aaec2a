/**
 * Mutated messages into the checkers, and what passes them into SEAL. Only refusals with a code may come out.
 *
 * Deterministic by seed: input i is a function of seed and i alone. Limit: SEAL draws its own randomness, so what it
 * computes differs from run to run; what it is given does not.
 */

import { publicPart, sealKeyFile } from '../../src/client/keyFile.ts';
import { type Encryption, importSecretKey, openEncryption, type Scorer } from '../../src/encryption/encryption.ts';
import { checkPublicKey } from '../../src/encryption/preamble.ts';
import { PRESETS, type PresetName } from '../../src/encryption/presets.ts';
import { keyIdOf } from '../../src/encryption/secretKey.ts';
import { readFrame, writeFrame } from '../../src/encryption/wire.ts';
import { VeilriskError } from '../../src/errors.ts';
import { modelOf, seededRandom } from '../encryption/support.ts';
import { type Corpus, DIMENSION, type Kind, type Message, openCorpus } from './corpus.ts';
import { mutate } from './mutations.ts';

export interface FuzzOptions {
  readonly inputs: number;
  readonly seed: number;
  /** Longest time an input may take. */
  readonly limitMs: number;
  /** False leaves out key files, whose making takes scrypt twice. Default true. */
  readonly keyFiles?: boolean;
  readonly onProgress?: (done: number) => void;
}

export interface FuzzSummary {
  readonly inputs: number;
  readonly seed: number;
  readonly seconds: number;
  /** Inputs by kind of message, and by outcome: `scored`, `decrypted`, `loaded` reached SEAL, the rest are codes. */
  readonly outcomes: Record<Kind, Record<string, number>>;
  /** Inputs that passed the checkers and were worked on by SEAL. */
  readonly reachedSeal: number;
  readonly slowestMs: number;
  /** At a tenth of the inputs and at the end. */
  readonly memory: readonly { rssBytes: number; wasmBytes: number }[];
}

/** An input that the code did not refuse as it must. */
export class FuzzFinding extends Error {
  override name = 'FuzzFinding';
}

/** Codes that a message of each kind may be refused with; anything else is a finding. */
const ALLOWED: Record<Kind, readonly string[]> = {
  request: ['FRAME_MALFORMED', 'FRAME_MISMATCH', 'CIPHERTEXT_MALFORMED', 'CIPHERTEXT_PARAMETERS'],
  reply: ['FRAME_MALFORMED', 'FRAME_MISMATCH', 'CIPHERTEXT_MALFORMED'],
  'public key': ['PUBLIC_KEY_MALFORMED', 'PUBLIC_KEY_DEGENERATE'],
  'exported key': ['ENCRYPTION_INPUT', 'PUBLIC_KEY_MALFORMED', 'PUBLIC_KEY_DEGENERATE'],
  'key file': ['KEY_FILE_MALFORMED'],
};
const KINDS = Object.keys(ALLOWED) as Kind[];
/** Of a thousand inputs; a key file that passes its header costs a hash over 200 KB. */
const KEY_FILES = 20;

/** Catches the memory of the WASM module, which its wrapper does not show. Called before SEAL is loaded first. */
export function watchWasmMemory(): () => number {
  const memories = new Set<WebAssembly.Memory>();
  const instantiate = WebAssembly.instantiate;
  const watched = async (...args: Parameters<typeof instantiate>) => {
    const result = (await instantiate(...args)) as unknown as WebAssembly.WebAssemblyInstantiatedSource;
    // A module gives an instance, bytes give both.
    const { exports } = result.instance ?? (result as unknown as WebAssembly.Instance);
    for (const value of Object.values(exports)) if (value instanceof WebAssembly.Memory) memories.add(value);
    return result;
  };
  Object.assign(WebAssembly, { instantiate: watched });
  return () => [...memories].reduce((sum, memory) => sum + memory.buffer.byteLength, 0);
}

export async function fuzzEncryption(options: FuzzOptions, wasmBytes: () => number): Promise<FuzzSummary> {
  const { inputs, seed, limitMs, keyFiles = true, onProgress } = options;
  const corpora: Corpus[] = [];
  for (const preset of Object.values(PRESETS)) {
    const random = seededRandom(seed ^ preset.degree);
    const corpus = openCorpus(preset, random);
    if (!keyFiles) {
      corpora.push(corpus);
      continue;
    }
    const file = await sealKeyFile(corpus.key, 'fuzz', random);
    const numbers = [4, 5, 6, 7, 8, 9, 10, 11, 12].map((at) => [at, 1] as const);
    const keyFile: Message = { kind: 'key file', bytes: file, fields: [...numbers, [44, 4], [48, 4], [52, 4]] };
    corpora.push({ ...corpus, messages: [...corpus.messages, keyFile] });
  }
  const enter = await openTargets(corpora);
  const outcomes = Object.fromEntries(KINDS.map((kind) => [kind, {}])) as Record<Kind, Record<string, number>>;
  const memory: { rssBytes: number; wasmBytes: number }[] = [];
  const started = performance.now();
  let [reachedSeal, slowestMs] = [0, 0];
  for (let i = 0; i < inputs; i++) {
    const random = seededRandom((Math.imul(seed, 0x9e3779b1) ^ Math.imul(i + 1, 0x85ebca6b)) >>> 0);
    // One in eight at `conservative`, which is twice the work.
    const corpus = corpora[random.nextUint32() % 8 === 0 ? 1 : 0];
    const last = corpus.messages.length - 1;
    const at = random.nextUint32() % 1000 < KEY_FILES ? last : random.nextUint32() % last;
    const message = corpus.messages[at];
    const { bytes, mutations } = mutate(message, corpus, random);
    const before = performance.now();
    let outcome: string;
    try {
      outcome = enter(corpus, message, bytes);
    } catch (cause) {
      outcome = cause instanceof VeilriskError ? cause.code : 'not a code';
      if (!ALLOWED[message.kind].includes(outcome))
        throw finding(outcome, i, message.kind, mutations, bytes, seed, cause);
    }
    const tookMs = performance.now() - before;
    slowestMs = Math.max(slowestMs, tookMs);
    if (tookMs > limitMs) throw finding(`${tookMs} ms`, i, message.kind, mutations, bytes, seed, undefined);
    if (REACHED.has(outcome)) reachedSeal++;
    outcomes[message.kind][outcome] = (outcomes[message.kind][outcome] ?? 0) + 1;
    if (i + 1 === Math.ceil(inputs / 10) || i + 1 === inputs) {
      globalThis.gc?.();
      memory.push({ rssBytes: process.memoryUsage.rss(), wasmBytes: wasmBytes() });
    }
    if ((i + 1) % 10_000 === 0) onProgress?.(i + 1);
  }
  const seconds = Math.round(performance.now() - started) / 1000;
  return { inputs, seed, seconds, outcomes, reachedSeal, slowestMs: Math.round(slowestMs), memory };
}

const REACHED = new Set(['scored', 'decrypted', 'loaded and scored with', 'loaded and decrypted with']);

/** The code under test, by kind of message; returns how far the bytes came. */
async function openTargets(corpora: readonly Corpus[]) {
  const models = new Map<number, ReturnType<typeof modelOf>>();
  const opened = new Map<PresetName, { encryption: Encryption; scorer: Scorer }>();
  for (const { key } of corpora) {
    const encryption = await openEncryption(key.preset);
    opened.set(key.preset, { encryption, scorer: encryption.openScorer(seededRandom(3)) });
  }
  const modelOfDimension = (dimension: number) => {
    const known = models.get(dimension);
    if (known !== undefined) return known;
    const model = modelOf(Array.from({ length: dimension }, (_, j) => (j % 17) - 8));
    if (models.size < 8) models.set(dimension, model);
    return model;
  };
  return ({ key, messages }: Corpus, message: Message, bytes: Uint8Array): string => {
    // Safe: every preset has been opened above.
    const { encryption } = opened.get(key.preset)!;
    switch (message.kind) {
      case 'request': {
        // As the node does it: header, key, model, then the scorer of the frame's preset.
        const { header } = readFrame('request', bytes);
        const other = corpora.find((one) => one.key.preset === header.preset)!;
        const { dimension } = header;
        const model = modelOfDimension(dimension === 2 ? dimension : DIMENSION);
        opened.get(header.preset)!.scorer.score(model, other.key.publicKey, bytes);
        return 'scored';
      }
      case 'reply':
        // Safe: a reply of the corpus has the header of its request.
        encryption.decryptReply(key, message.header!, bytes);
        return 'decrypted';
      case 'public key': {
        const preset = checkPublicKey(bytes);
        const own = corpora.find((one) => one.key.preset === preset.name)!;
        const { header, parts } = readFrame('request', own.messages[0].bytes);
        const request = writeFrame('request', { ...header, keyId: keyIdOf(bytes) }, parts);
        opened.get(preset.name)!.scorer.score(modelOfDimension(DIMENSION), bytes, request);
        return 'loaded and scored with';
      }
      case 'exported key': {
        const imported = importSecretKey(bytes);
        const reply = messages.find(({ kind }) => kind === 'reply')!;
        const own = imported.preset === key.preset ? encryption : opened.get(imported.preset)!.encryption;
        if (imported.preset !== key.preset) return 'imported';
        own.decryptReply(imported, reply.header!, reply.bytes);
        return 'loaded and decrypted with';
      }
      case 'key file':
        return publicPart(bytes).preset;
    }
  };
}

function finding(
  what: string,
  input: number,
  kind: Kind,
  mutations: readonly string[],
  bytes: Uint8Array,
  seed: number,
  cause: unknown,
): FuzzFinding {
  const prefix = Buffer.from(bytes.subarray(0, 256)).toString('hex');
  return new FuzzFinding(
    `${what} from input ${input} of seed ${seed}: ${kind}, ${mutations.join(' and ')}, ${bytes.length} bytes, ${prefix}`,
    { cause },
  );
}
