/**
 * Random 80/20 splits and the dealing of the training side to banks, both by customer.
 *
 * Seeded, so that a split can be repeated; stratified by nothing. A customer is never on both sides, nor at two banks.
 * Limit: 80 % of the customers; of the rows only on average when customers differ in size.
 */
import { LearningError } from '../../errors.ts';
import { seededRandom } from '../../simulator/random.ts';
import type { RowsOfFit } from '../../workers/evaluationJob.ts';
import { sharedMemory } from '../../workers/thread.ts';
import type { EvaluationRows } from './rows.ts';

const TRAIN_SHARE = 0.8;
/** A bank with fewer rows has nothing to contribute but noise. */
const LEAST_BANK_ROWS = 5;

/**
 * Split number `split` of a seed, dealt to `sites` banks. The same for every number of banks but for the dealing.
 *
 * @param usable rows that training may use, ascending: at most m of each customer. The test side is not bounded.
 * @throws LearningError TRAINING_INPUT when a bank gets too few rows or a side has one label only.
 */
export function splitRows(
  rows: Pick<EvaluationRows, 'data' | 'customers' | 'customerCount'>,
  usable: Uint32Array,
  { seed, split, sites }: { seed: number; split: number; sites: number },
): RowsOfFit {
  const { data, customers, customerCount } = rows;
  const place = shuffled(customerCount, seed, split);
  const cut = Math.floor(customerCount * TRAIN_SHARE);
  const banks: number[][] = Array.from({ length: sites }, () => []);
  const test: number[] = [];
  for (const row of usable) if (place[customers[row]] < cut) banks[place[customers[row]] % sites].push(row);
  for (let row = 0; row < data.rows; row++) if (place[customers[row]] >= cut) test.push(row);
  const smallest = Math.min(...banks.map((bank) => bank.length));
  if (smallest < LEAST_BANK_ROWS) {
    throw new LearningError('TRAINING_INPUT', `a bank has ${smallest} training rows, fewer than ${LEAST_BANK_ROWS}`, {
      where: `split ${split}, ${sites} banks`,
      fix: 'Give a file with more customers, or fewer --sites.',
    });
  }
  requireBothLabels(data.labels, banks.flat(), `training side of split ${split}`);
  requireBothLabels(data.labels, test, `test side of split ${split}`);
  return { banks: banks.map(sharedList), test: sharedList(test) };
}

/** The place of each of `count` customers in a random order: Fisher-Yates (Knuth, TAOCP 2, 3.4.2, algorithm P). */
function shuffled(count: number, seed: number, split: number): Uint32Array {
  const random = seededRandom(seed, `evaluation split ${split}`);
  const place = Uint32Array.from({ length: count }, (_, customer) => customer);
  for (let i = count - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [place[i], place[j]] = [place[j], place[i]];
  }
  return place;
}

function requireBothLabels(labels: Uint8Array, rows: readonly number[], where: string): void {
  const positives = rows.reduce((sum, row) => sum + labels[row], 0);
  if (positives > 0 && positives < rows.length) return;
  throw new LearningError('TRAINING_INPUT', `all rows have the ${positives === 0 ? 'negative' : 'positive'} label`, {
    where,
    fix: 'Give a file with more rows of the rarer label, or another --seed.',
  });
}

function sharedList(rows: readonly number[]): Uint32Array {
  const list = new Uint32Array(sharedMemory(rows.length * Uint32Array.BYTES_PER_ELEMENT));
  list.set(rows);
  return list;
}
