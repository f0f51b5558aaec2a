/**
 * The thread of the DP-SGD pool: a whole training per job, noise from the operating system's generator.
 */
import { trainSgd } from '../learning/sgd/train.ts';
import { systemRandom } from '../random.ts';
import type { SgdJob, SgdOutcome } from './sgdJob.ts';
import { failureOf } from './thread.ts';

export default function run({ sites, settings, contract, progress }: SgdJob): SgdOutcome {
  try {
    const randoms = sites.map(() => systemRandom());
    const model = trainSgd(sites, settings, contract, randoms, (state) => progress.postMessage(state));
    return { ok: true, model };
  } catch (error) {
    return failureOf(error);
  } finally {
    progress.close();
  }
}
