/**
 * Which of the two layouts a batch is sent in: the one that a small cost model says is answered sooner.
 *
 * Source: constants measured by `npm run bench:encryption` (its crossover tables) on one thread of a two-core x86-64
 * cloud server with Node 24; caller and node are taken to be such machines, with 100 Mbit/s between them, one step after
 * the other. Another machine scales all of its constants alike, which moves the crossover little: for the contract of
 * the demonstration it lies near 1,500 transactions at 1 Gbit/s, 2,200 at 100 Mbit/s and 2,550 at 20 Mbit/s.
 * Limit: latency, other load on the node and steps that overlap are left out. What each transaction costs in either
 * layout (its flood, its share of a reply) is the same in both and left out of the times.
 */
import {
  type LayoutName,
  maxTransactions,
  PRESETS,
  type PresetName,
  requestBytes,
  rowCapacity,
} from '../encryption/encryption.ts';

/** Largest request body a node takes. */
const LARGEST_BODY_BYTES = 64 * 1024 * 1024;

/** 100 Mbit/s. */
const LINK_BYTES_PER_MS = 12_500;
/** Frame header of a request or reply, and the length of each of its parts. */
const FRAME_BYTES = 120;
const PART_BYTES = 4;

/** Milliseconds. */
interface StepCosts {
  /** The caller encrypts a ciphertext. */
  readonly encrypt: number;
  /** The node answers a row ciphertext, the making of its encryption of zero included. */
  readonly row: number;
  /** The node multiplies and adds a column ciphertext. */
  readonly column: number;
  /** The node finishes a column: encryption of zero, flood, rescaling. */
  readonly columnReply: number;
  /** The caller decrypts a ciphertext. */
  readonly decrypt: number;
}

const COSTS: Readonly<Record<PresetName, StepCosts>> = {
  standard: { encrypt: 1, row: 2.4, column: 0.33, columnReply: 3.5, decrypt: 0.7 },
  conservative: { encrypt: 2.3, row: 5, column: 0.7, columnReply: 7, decrypt: 1.4 },
};

/**
 * @param dimension one-hot dimensions of a transaction, 1 to N
 * @param transactions how many are to be scored, at least 1; more than a request holds are sent in several
 * @returns never a layout whose requests are more than a node takes
 */
export function chooseLayout(preset: PresetName, dimension: number, transactions: number): LayoutName {
  const [row, column] = (['row', 'column'] as const).map((layout) => {
    return layoutCost(preset, layout, dimension, transactions);
  });
  return column < row ? 'column' : 'row';
}

/** Modelled milliseconds from transactions to logits; infinite when a request would be more than a node takes. */
export function layoutCost(preset: PresetName, layout: LayoutName, dimension: number, transactions: number): number {
  const costs = COSTS[preset];
  const rows = Math.ceil(transactions / rowCapacity(PRESETS[preset], dimension));
  let ms = layout === 'row' ? rows * (costs.encrypt + costs.row + costs.decrypt) : 0;
  for (const { count, times } of requestsOf(preset, layout, dimension, transactions)) {
    const { up, down } = trafficBytes(preset, layout, dimension, count);
    if (up > LARGEST_BODY_BYTES) return Number.POSITIVE_INFINITY;
    ms += (times * (up + down)) / LINK_BYTES_PER_MS;
    if (layout === 'column') {
      ms += times * (dimension * (costs.encrypt + costs.column) + costs.columnReply + costs.decrypt);
    }
  }
  return ms;
}

/** Bytes of one request and of its reply, exact. @param transactions 1 to what a request of this layout holds */
export function trafficBytes(
  preset: PresetName,
  layout: LayoutName,
  dimension: number,
  transactions: number,
): { up: number; down: number } {
  const { degree } = PRESETS[preset];
  const parts = layout === 'row' ? Math.ceil(transactions / rowCapacity(PRESETS[preset], dimension)) : 1;
  return {
    up: requestBytes({ preset, layout, dimension, transactions }),
    // A coefficient a transaction, and the whole second polynomial of every part (FORMAT.md).
    down: FRAME_BYTES + parts * (PART_BYTES + 8 * degree) + 8 * transactions,
  };
}

/** Full requests, and the rest. */
function requestsOf(preset: PresetName, layout: LayoutName, dimension: number, transactions: number) {
  const most = maxTransactions(preset, layout, dimension);
  return [
    { count: most, times: Math.floor(transactions / most) },
    { count: transactions % most, times: 1 },
  ].filter(({ count, times }) => count > 0 && times > 0);
}
