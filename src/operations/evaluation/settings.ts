/** What `veilrisk evaluate` is asked for, checked before any data is read. */
import { RequestError } from '../../errors.ts';
import { FAMILIES, type Family, MODES, type Mode } from '../../workers/evaluationJob.ts';

export { FAMILIES, type Family, MODES, type Mode };

export interface EvaluationSettings {
  families: readonly Family[];
  modes: readonly Mode[];
  epsilons: readonly number[];
  delta: number;
  /** Banks of modes `site` and `sum`. */
  sites: number;
  /** Of mode `sum`: banks that may collude, and banks that may drop out; each makes every bank's noise larger. */
  colluders: number;
  dropouts: number;
  splits: number;
  /** Of the splits only. Noise is never seeded. */
  seed: number;
  /** Fits that run side by side. */
  jobs: number;
  /** Largest share of rows that may break the contract and be left out, in [0, 1). */
  maxRejected: number;
  /** Whether the non-private scorecard is fitted too. */
  reference: boolean;
}

/** Limits of a plan, so that every family is asked the same. */
const EPSILON = { least: 0.01, most: 100 };
const DELTA = { least: 1e-12, most: 1e-2 };

/** A comma separated list of distinct numbers. @throws RequestError USAGE naming the entry. */
export function parseEpsilons(text: string): number[] {
  const numbers = listOf(text, '--epsilon').map((entry) => {
    const value = /^(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(entry) ? Number(entry) : Number.NaN;
    if (!(value >= EPSILON.least && value <= EPSILON.most)) {
      const range = `a number from ${EPSILON.least} to ${EPSILON.most}`;
      throw usage('--epsilon', `"${entry}" is not ${range}`, 'give numbers separated by commas, such as 0.5,1,2,4');
    }
    return value;
  });
  return distinct(numbers, '--epsilon');
}

export function parseFamilies(text: string): Family[] {
  return distinct(
    listOf(text, '--family').map((entry) => oneOf(FAMILIES, entry, '--family')),
    '--family',
  );
}

export function parseModes(text: string): Mode[] {
  return distinct(
    listOf(text, '--mode').map((entry) => oneOf(MODES, entry, '--mode')),
    '--mode',
  );
}

/** @throws RequestError USAGE for the first setting outside its range. */
export function checkSettings(settings: EvaluationSettings): void {
  const { delta, sites, colluders, dropouts, maxRejected, modes } = settings;
  if (!(delta >= DELTA.least && delta <= DELTA.most)) {
    throw usage('--delta', `it must lie between ${DELTA.least} and ${DELTA.most}`, 'give one such as 1e-6');
  }
  whole('--sites', sites, 1, 100);
  whole('--splits', settings.splits, 1, 1000);
  whole('--seed', settings.seed, 0, Number.MAX_SAFE_INTEGER);
  whole('--jobs', settings.jobs, 1, 256);
  if (!(maxRejected >= 0 && maxRejected < 1)) {
    throw usage('--max-rejected', 'it must be a share of at least 0 and below 1', 'give one such as 0.01');
  }
  if (!modes.includes('sum') && (colluders > 0 || dropouts > 0)) {
    throw usage('--mode', 'colluders and drop-outs matter in mode sum only', 'add --mode sum, or leave them out');
  }
  if (colluders + dropouts >= sites && colluders + dropouts > 0) {
    throw usage('--sites', 'colluders and drop-outs together must be fewer than the banks', 'give more --sites');
  }
}

function whole(option: string, value: number, least: number, most: number): void {
  if (!Number.isSafeInteger(value) || value < least || value > most) {
    throw usage(option, `it must be a whole number from ${least} to ${most}`, `choose ${least} or more`);
  }
}

function listOf(text: string, option: string): string[] {
  const entries = text.split(',').map((entry) => entry.trim());
  if (entries.some((entry) => entry === '')) {
    throw usage(option, 'the list has an empty entry', 'separate the entries by single commas');
  }
  return entries;
}

function oneOf<T extends string>(known: readonly T[], entry: string, option: string): T {
  const found = known.find((name) => name === entry);
  if (found === undefined) throw usage(option, `"${entry}" is not known`, `choose among ${known.join(', ')}`);
  return found;
}

function distinct<T>(entries: T[], option: string): T[] {
  if (new Set(entries).size < entries.length) throw usage(option, 'an entry is given twice', 'give each entry once');
  return entries;
}

function usage(option: string, problem: string, fix: string): RequestError {
  return new RequestError('USAGE', `${option}: ${problem}`, { where: option, fix });
}
