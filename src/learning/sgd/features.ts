/**
 * From bins to the dense feature vector of logistic regression and MLP.
 *
 * The encoding follows from the contract alone. In contract order, a field gives these features:
 *   numeric      `name`          position of the bin's middle in (-1, 1), 0 when missing
 *                `name~0..H-1`   hat functions over H equally spaced knots, in [0, 1], summing to 1, 0 when missing;
 *                                only with more than 3 value bins
 *                `name:missing`  1 when missing, else 0
 *   boolean      `name`          1 true, -1 false, 0 missing; `name:missing`
 *   categorical  `name=category` one for each category, `name:other`, `name:missing`; exactly one is 1
 *   interaction  `name#bin`      one for each bin; exactly one is 1, so that it adds 1 to the squared norm like a category
 * Most entries of a vector are zero, so records are read as index and value lists.
 *
 * Limit: equal bins give equal features; what a bin has merged is gone.
 */
import { type Contract, type Field, layoutOf } from '../../contract/contract.ts';
import { LearningError } from '../../errors.ts';
import { type BinnedData, offsetsOf } from '../binned.ts';

/** How the bins of one field become features. */
export interface FieldEncoding {
  readonly code: 'position' | 'sign' | 'one-hot';
  /** Bins of the field, `other` and `missing` included. */
  readonly bins: number;
}

/** Knots of the hat basis; a field with fewer bins gets one knot for each. */
const KNOTS = 8;
const FEWEST_BINS_WITH_KNOTS = 4;

export function encodingOf(contract: Pick<Contract, 'fields'>): FieldEncoding[] {
  const { sizes } = layoutOf(contract);
  return contract.fields.map(({ kind }, k) => {
    const code = kind === 'numeric' ? 'position' : kind === 'boolean' ? 'sign' : 'one-hot';
    return { code, bins: sizes[k] };
  });
}

/** Names of the features in order. */
export function featureNames(contract: Pick<Contract, 'fields'>): string[] {
  return encodingOf(contract).flatMap((encoding, k) => namesOf(contract.fields[k], encoding));
}

function namesOf(field: Field, { code, bins }: FieldEncoding): string[] {
  const { name } = field;
  if (code === 'position') {
    const hats = Array.from({ length: knotsOf(bins - 1) }, (_, h) => `${name}~${h}`);
    return [name, ...hats, `${name}:missing`];
  }
  if (code === 'sign') return [name, `${name}:missing`];
  if (field.kind === 'categorical') {
    return [...field.categories.map((category) => `${name}=${category}`), `${name}:other`, `${name}:missing`];
  }
  return Array.from({ length: bins }, (_, bin) => `${name}#${bin}`);
}

/**
 * The middle of the features, one of no record's making: numeric fields half-way, boolean ones between their signs, the
 * bins of all others alike. Nothing is missing.
 */
export function middleFeatures(encoding: readonly FieldEncoding[]): Float64Array {
  const blocks = encoding.map(({ code, bins }) => {
    if (code === 'one-hot') return Array.from({ length: bins }, () => 1 / bins);
    if (code === 'sign') return [0, 0];
    const knots = knotsOf(bins - 1);
    const hats = Array.from({ length: knots }, (_, h) => Math.max(0, 1 - Math.abs(h - (knots - 1) / 2)));
    return [0, ...hats, 0];
  });
  return Float64Array.from(blocks.flat());
}

export interface FeatureMap {
  /** Bins per field, as in the data. */
  readonly sizes: readonly number[];
  /** Entries of a feature vector. */
  readonly width: number;
  /** Most non-zero entries that one record can have. */
  readonly nonZero: number;
  /** Largest L2 norm of a feature vector, a public fact. */
  readonly largestNorm: number;
  /** The bin at one-hot coordinate b owns entries starts[b] .. starts[b + 1] - 1 of `indices` and `values`. */
  readonly starts: Int32Array;
  readonly indices: Int32Array;
  /** Exact in float32, so that an exported model is fed what training saw. */
  readonly values: Float64Array;
}

export function featureMapOf(encoding: readonly FieldEncoding[]): FeatureMap {
  const starts: number[] = [0];
  const indices: number[] = [];
  const values: number[] = [];
  let width = 0;
  let nonZero = 0;
  let squaredNorm = 0;
  for (const field of encoding) {
    const block = blockOf(field);
    let largest = 0;
    for (const entries of block.bins) {
      let squares = 0;
      for (const [at, value] of entries) {
        indices.push(width + at);
        values.push(Math.fround(value));
        squares += Math.fround(value) ** 2;
      }
      starts.push(indices.length);
      largest = Math.max(largest, squares);
    }
    squaredNorm += largest;
    width += block.width;
    nonZero += Math.max(...block.bins.map((entries) => entries.length));
  }
  return {
    sizes: encoding.map(({ bins }) => bins),
    width,
    nonZero,
    largestNorm: Math.sqrt(squaredNorm),
    starts: Int32Array.from(starts),
    indices: Int32Array.from(indices),
    values: Float64Array.from(values),
  };
}

/** Where a bin is non-zero, counted from the first feature of its field. */
type Entries = [at: number, value: number][];

function blockOf({ code, bins }: FieldEncoding): { width: number; bins: Entries[] } {
  if (code === 'one-hot') return { width: bins, bins: Array.from({ length: bins }, (_, bin) => [[bin, 1]]) };
  if (code === 'sign') return { width: 2, bins: [[[0, -1]], [[0, 1]], [[1, 1]]] };
  const count = bins - 1;
  const knots = knotsOf(count);
  const width = knots + 2;
  const valueBins = Array.from({ length: count }, (_, bin): Entries => {
    const entries: Entries = [[0, (2 * bin + 1) / count - 1]];
    if (knots > 0) {
      // The first bin sits on the first knot, the last bin on the last.
      const at = (bin / (count - 1)) * (knots - 1);
      const left = Math.min(Math.floor(at), knots - 2);
      entries.push([1 + left, left + 1 - at], [2 + left, at - left]);
    }
    return entries.filter(([, value]) => value !== 0);
  });
  return { width, bins: [...valueBins, [[width - 1, 1]]] };
}

function knotsOf(valueBins: number): number {
  return valueBins < FEWEST_BINS_WITH_KNOTS ? 0 : Math.min(KNOTS, valueBins);
}

/** Writes the non-zero features of one record and returns how many; both arrays hold `map.nonZero`. */
export type RowReader = (row: number, indices: Int32Array, values: Float64Array) => number;

/** @throws LearningError MODEL_CONTRACT_MISMATCH when the data does not have the bins of the map. */
export function rowReader(map: FeatureMap, data: BinnedData): RowReader {
  const { sizes, bins } = data;
  if (sizes.length !== map.sizes.length || sizes.some((size, k) => size !== map.sizes[k])) {
    throw new LearningError('MODEL_CONTRACT_MISMATCH', 'the data does not have the bins of the contract', {
      where: 'sizes',
    });
  }
  const { offsets } = offsetsOf(sizes);
  const fields = offsets.length;
  const { starts, indices: from, values: worth } = map;
  return (row, indices, values) => {
    let filled = 0;
    for (let k = 0, at = row * fields; k < fields; k++, at++) {
      const bin = offsets[k] + bins[at];
      for (let entry = starts[bin], end = starts[bin + 1]; entry < end; entry++, filled++) {
        indices[filled] = from[entry];
        values[filled] = worth[entry];
      }
    }
    return filled;
  };
}

/** All records as the float32 matrix that an exported model takes: row-major, rows * width. */
export function denseFeatures(map: FeatureMap, data: BinnedData): Float32Array {
  const read = rowReader(map, data);
  const indices = new Int32Array(map.nonZero);
  const values = new Float64Array(map.nonZero);
  const dense = new Float32Array(data.rows * map.width);
  for (let row = 0; row < data.rows; row++) {
    const filled = read(row, indices, values);
    for (let i = 0; i < filled; i++) dense[row * map.width + indices[i]] = values[i];
  }
  return dense;
}
