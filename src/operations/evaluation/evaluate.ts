/**
 * `veilrisk evaluate`: how well each family ranks unseen customers at each privacy loss, on any file with a contract.
 *
 * For each split every family, mode and epsilon is trained on the same rows with fresh noise of the operating system and
 * tested on the same customers. Limit: for researchers. The figures are exact functions of the data, NOT private, and
 * choosing settings by them is a use of the data that no epsilon here accounts for.
 */
import type { FitResult, RowsOfFit } from '../../workers/evaluationJob.ts';
import { type EvaluationPool, openEvaluationPool } from '../../workers/evaluationPool.ts';
import { type ContractFile, readContract } from '../contracts.ts';
import type { Progress } from '../readRows.ts';
import { type EvaluationResult, openResultFile, summarise } from './results.ts';
import { type EvaluationRows, loadRows } from './rows.ts';
import { checkSettings, type EvaluationSettings, type Mode } from './settings.ts';
import { splitRows } from './splits.ts';

export interface EvaluationRequest extends EvaluationSettings {
  /** Path of a contract, or the name of a published one. */
  contract: string;
  /** CSV file, plain or gzip. */
  data: string;
  /** Where the JSON goes; null: nowhere. */
  out: string | null;
  signal: AbortSignal;
}

/** What a person watching is told. */
export interface EvaluationView {
  reading: Progress;
  loaded(contract: ContractFile, rows: EvaluationRows, usable: number): void;
  fitting(done: number, of: number): void;
}

export interface Evaluation {
  contract: ContractFile;
  results: EvaluationResult[];
  /** The scorecard without privacy on all training rows; null when it was not asked for. */
  reference: ReturnType<typeof summarise> | null;
}

/**
 * Runs the whole evaluation and writes the JSON file.
 *
 * @returns null when `signal` ended it; nothing is written then, nor when it fails.
 */
export async function evaluate(request: EvaluationRequest, view: EvaluationView): Promise<Evaluation | null> {
  checkSettings(request);
  const contract = await readContract(request.contract);
  const file = request.out === null ? null : await openResultFile(request.out);
  const { signal } = request;
  const rows = await loadRows(contract.contract, request.data, { ...request, onProgress: view.reading });
  if (rows === null || signal.aborted) return null;
  const pool = openEvaluationPool(request.jobs);
  const stop = () => void pool.close();
  signal.addEventListener('abort', stop, { once: true });
  try {
    const most = contract.contract.maxRecordsPerSubject;
    const usable = await pool.bound({ customers: rows.customers, most });
    view.loaded(contract, rows, usable.length);
    const { results, reference } = await fits(request, contract, rows, usable, pool, view);
    if (signal.aborted) return null;
    await file?.write(results);
    return { contract, results, reference };
  } catch (error) {
    // The threads were ended on request; that the jobs in them failed is no news.
    if (signal.aborted) return null;
    throw error;
  } finally {
    signal.removeEventListener('abort', stop);
    await pool.close();
  }
}

async function fits(
  request: EvaluationRequest,
  { contract }: ContractFile,
  rows: EvaluationRows,
  usable: Uint32Array,
  pool: EvaluationPool,
  view: EvaluationView,
): Promise<Pick<Evaluation, 'results' | 'reference'>> {
  const { families, modes, epsilons, delta, colluders, dropouts, seed } = request;
  const banksOf = (mode: Mode) => (mode === 'single' ? 1 : request.sites);
  const wishes = families.flatMap((family) =>
    modes.flatMap((mode) => epsilons.map((epsilon) => ({ family, mode, epsilon, fits: [] as Promise<FitResult>[] }))),
  );
  const plain: Promise<FitResult>[] = [];
  const of = request.splits * (wishes.length + (request.reference ? 1 : 0));
  let done = 0;
  const counted = (fit: Promise<FitResult>) => {
    // Its failure is thrown by the wait for all; until then it must not count as unhandled.
    fit.then(() => view.fitting(++done, of)).catch(() => {});
    return fit;
  };
  // Every split is checked before the first fit starts.
  const splits = Array.from({ length: request.splits }, (_, i) => {
    const dealt = new Map<number, RowsOfFit>();
    for (const sites of new Set([...modes.map(banksOf), ...(request.reference ? [1] : [])])) {
      dealt.set(sites, splitRows(rows, usable, { seed, split: i + 1, sites }));
    }
    return dealt;
  });
  const { data } = rows;
  for (const dealt of splits) {
    for (const { family, mode, epsilon, fits } of wishes) {
      // Safe (both): every number of banks that a mode or the reference has was dealt above.
      const side = dealt.get(banksOf(mode))!;
      fits.push(counted(pool.fit({ data, contract, ...side, family, mode, epsilon, delta, colluders, dropouts })));
    }
    if (request.reference) plain.push(counted(pool.reference({ data, contract, ...dealt.get(1)! })));
  }
  await Promise.all([...wishes.flatMap(({ fits }) => fits), ...plain]);
  const results = await Promise.all(
    wishes.map(async ({ family, mode, epsilon, fits }): Promise<EvaluationResult> => {
      return { family, mode, sites: banksOf(mode), epsilon, delta, ...summarise(await Promise.all(fits)) };
    }),
  );
  return { results, reference: plain.length === 0 ? null : summarise(await Promise.all(plain)) };
}
