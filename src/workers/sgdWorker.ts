/**
 * The thread of the DP-SGD pool: a whole training per job, noise from the operating system's generator.
 *
 * Errors cross the thread boundary as data, because a structured clone loses their class and code.
 */
import { LearningError, PrivacyError } from '../errors.ts';
import { trainSgd } from '../learning/sgd/train.ts';
import { systemRandom } from '../random.ts';
import type { SgdJob, SgdOutcome } from './sgdJob.ts';

export default function run({ sites, settings, contract, progress }: SgdJob): SgdOutcome {
  try {
    const randoms = sites.map(() => systemRandom());
    const model = trainSgd(sites, settings, contract, randoms, (state) => progress.postMessage(state));
    return { ok: true, model };
  } catch (error) {
    if (error instanceof LearningError || error instanceof PrivacyError) {
      const { message, where, fix } = error;
      const named =
        error instanceof LearningError
          ? ({ room: 'learning', code: error.code } as const)
          : ({ room: 'privacy', code: error.code } as const);
      return { ok: false, error: named, message, where, fix };
    }
    throw error;
  } finally {
    progress.close();
  }
}
