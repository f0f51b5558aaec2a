/** Structure-aware mutations: each changes a copy of a valid message where a parser is likeliest to be wrong. */
import type { seededRandom } from '../encryption/support.ts';
import type { Corpus, Message } from './corpus.ts';

type Random = ReturnType<typeof seededRandom>;

export const MUTATIONS = [
  'unchanged',
  'bit of the header',
  'bit anywhere',
  'field',
  'length and field',
  'truncated',
  'tail',
  'splice',
  'foreign bytes',
  'repeated',
  'zeroed',
  'residue',
  'noise',
] as const;
export type Mutation = (typeof MUTATIONS)[number];

/** Weights in the order of MUTATIONS: most inputs are refused in microseconds, some reach SEAL. */
const WEIGHTS = [2, 220, 3, 330, 70, 110, 45, 110, 40, 25, 15, 8, 22];
const UP_TO = WEIGHTS.map((_, i) => WEIGHTS.slice(0, i + 1).reduce((sum, weight) => sum + weight, 0));
const TOTAL = UP_TO[UP_TO.length - 1];

const NUMBERS = [0n, 1n, 2n, 3n, 16n, 64n, 127n, 128n, 255n, 350n, 4095n, 4096n, 4097n, 8192n, 65_535n, 65_536n]
  .concat([
    65_730n,
    114_689n,
    2n ** 31n - 1n,
    2n ** 31n,
    2n ** 32n - 1n,
    2n ** 32n,
    2n ** 53n,
    2n ** 63n,
    2n ** 64n - 1n,
  ])
  .concat([17_592_186_028_033n, 35_184_371_884_033n])
  .concat([Number.NaN, Number.POSITIVE_INFINITY, -1, -0, 1e-300, 5e-324, 2 ** 61, 2 ** 62, 2 ** 78].map(bitsOf));

function bitsOf(value: number): bigint {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value, true);
  return view.getBigUint64(0, true);
}

/** Room for a message and what is spliced to it; one input at a time lives in it, at an odd offset. */
const scratch = new Uint8Array(1 << 20);
const START = 3;

/** One input. The bytes are overwritten by the next call. */
export function mutate(message: Message, corpus: Corpus, random: Random): { bytes: Uint8Array; mutations: Mutation[] } {
  const below = (n: number) => random.nextUint32() % n;
  scratch.set(message.bytes, START);
  let length = message.bytes.length;
  const view = new DataView(scratch.buffer, START);
  const bytes = scratch.subarray(START);
  const mutations: Mutation[] = [];
  const field = () => {
    const [at, width] = message.fields[below(message.fields.length)];
    const old = view.getBigUint64(at, true);
    const near = [old + 1n, old - 1n, old * 2n, old / 2n];
    const value = below(3) === 0 ? near[below(near.length)] : NUMBERS[below(NUMBERS.length)];
    const wide = BigInt.asUintN(8 * width, value);
    for (let i = 0; i < width; i++) bytes[at + i] = Number((wide >> BigInt(8 * i)) & 255n);
  };
  const flip = (within: number) => {
    bytes[below(Math.max(1, Math.min(within, length)))] ^= 1 << below(8);
  };
  for (let times = below(4) === 0 ? 2 : 1; times > 0; times--) {
    const mutation = pick(random);
    mutations.push(mutation);
    switch (mutation) {
      case 'unchanged':
        break;
      case 'bit of the header':
        flip(124);
        break;
      case 'bit anywhere':
        flip(length);
        break;
      case 'field':
        field();
        break;
      case 'length and field':
        field();
        length = Math.max(0, length + [-8, -4, -1, 1, 4, 8][below(6)]);
        break;
      case 'truncated':
        length = below(length + 1);
        break;
      case 'tail': {
        const more = 1 + below(64);
        for (let i = 0; i < more; i++) bytes[length + i] = random.nextUint32();
        length += more;
        break;
      }
      case 'splice': {
        const other = corpus.messages[below(corpus.messages.length)].bytes;
        const at = below(Math.min(length, other.length) + 1);
        bytes.set(other.subarray(at), at);
        length = other.length;
        break;
      }
      case 'foreign bytes': {
        const other = corpus.foreign[below(corpus.foreign.length)];
        const at = below(length + 1);
        bytes.set(other, at);
        if (below(2) === 0) length = at + other.length;
        break;
      }
      case 'repeated': {
        const from = below(length + 1);
        const count = Math.min(below(4096), length - from);
        bytes.copyWithin(from + count, from, length);
        length += count;
        break;
      }
      case 'zeroed': {
        const from = below(length + 1);
        bytes.fill(0, from, Math.min(length, from + 1 + below(8192)));
        break;
      }
      case 'residue': {
        const at = Math.max(0, length - 8 * (12 + below(8000)));
        if (at + 8 <= length) view.setBigUint64(at, NUMBERS[below(NUMBERS.length)], true);
        break;
      }
      case 'noise': {
        const from = below(length + 1);
        const to = Math.min(length, from + below(256));
        for (let i = from; i < to; i++) bytes[i] = random.nextUint32();
      }
    }
    // Two mutations of a long message stay within the room.
    length = Math.min(length, scratch.length / 2);
  }
  return { bytes: bytes.subarray(0, length), mutations };
}

function pick(random: Random): Mutation {
  const drawn = random.nextUint32() % TOTAL;
  return MUTATIONS[UP_TO.findIndex((sum) => drawn < sum)];
}
