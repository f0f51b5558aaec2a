/**
 * The results of an evaluation: the lines of the JSON file, and the file itself.
 *
 * The file appears under its name only when it is complete: it is written beside it and renamed. A name that is no
 * regular file (such as /dev/stdout) is written to directly. Limit: AUCs are exact, hence NOT private.
 */
import { constants } from 'node:fs';
import { access, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { ContractError } from '../../errors.ts';
import type { FitResult } from '../../workers/evaluationJob.ts';
import type { Family, Mode } from './settings.ts';

/** One line of the JSON file; exactly these keys. */
export interface EvaluationResult {
  family: Family;
  mode: Mode;
  /** Banks that trained together; 1 in mode `single`. */
  sites: number;
  epsilon: number;
  delta: number;
  /** Mean test AUC over the splits. */
  aucMean: number;
  /** Sample standard deviation of it over the splits; 0 for one split. */
  aucSd: number;
  /** Mean time of training alone, all banks one after the other, in one thread. */
  fitSecondsMean: number;
}

export function summarise(fits: readonly FitResult[]): Pick<EvaluationResult, 'aucMean' | 'aucSd' | 'fitSecondsMean'> {
  const aucMean = mean(fits.map(({ auc }) => auc));
  const spread = fits.reduce((sum, { auc }) => sum + (auc - aucMean) ** 2, 0);
  return {
    aucMean,
    aucSd: Math.sqrt(spread / Math.max(1, fits.length - 1)),
    fitSecondsMean: mean(fits.map(({ seconds }) => seconds)),
  };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

export interface ResultFile {
  write(results: readonly EvaluationResult[]): Promise<void>;
}

/** Checks that the file can be written before hours of work. @throws ContractError FILE_UNREADABLE when it cannot. */
export async function openResultFile(path: string): Promise<ResultFile> {
  const target = await realpath(path).catch(() => resolve(path));
  const found = await stat(target).catch(() => null);
  const direct = /^\/(dev|proc)\//.test(path) || (found !== null && !found.isFile());
  try {
    if (found?.isDirectory()) throw unwritable(path, 'This is a folder and not a file');
    if (direct) await access(target, constants.W_OK);
    else {
      if (found !== null) await access(target, constants.W_OK);
      await access(dirname(target), constants.W_OK);
    }
  } catch (cause) {
    throw cause instanceof ContractError ? cause : unwritable(path, 'The results cannot be written here', cause);
  }
  return {
    async write(results) {
      const text = `${JSON.stringify(results, null, 2)}\n`;
      const partial = `${target}.${process.pid}.partial`;
      try {
        if (direct) await writeFile(target, text);
        else {
          await writeFile(partial, text);
          await rename(partial, target);
        }
      } catch (cause) {
        await rm(partial, { force: true });
        throw unwritable(path, 'The results could not be written', cause);
      }
    },
  };
}

function unwritable(where: string, message: string, cause?: unknown): ContractError {
  return new ContractError('FILE_UNREADABLE', message, {
    where,
    fix: 'Check that the folder exists, may be written by this user and has room.',
    cause,
  });
}
