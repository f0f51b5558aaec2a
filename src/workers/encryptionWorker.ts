/**
 * One thread of the encryption pool: a function per job, all state in this thread.
 *
 * Errors cross the thread boundary as data, because a structured clone loses their class and code.
 */
import { setImmediate } from 'node:timers';
import { type Encryption, inspectPublicKey, openEncryption, type Scorer } from '../encryption/encryption.ts';
import type { PresetName } from '../encryption/presets.ts';
import { readFrameHeader } from '../encryption/wire.ts';
import { EncryptionError } from '../errors.ts';
import { systemRandom } from '../random.ts';
import type { EncryptionJob, EncryptionOutcome } from './encryptionJob.ts';

const random = systemRandom();
const scorers = new Map<PresetName, Scorer>();

async function scorerOf(preset: PresetName): Promise<Scorer> {
  let scorer = scorers.get(preset);
  if (scorer === undefined) {
    const encryption: Encryption = await openEncryption(preset);
    scorer = encryption.openScorer(random);
    scorers.set(preset, scorer);
  }
  return scorer;
}

async function run(job: EncryptionJob): Promise<EncryptionOutcome> {
  try {
    if (job.kind === 'warm') return { ok: true, kind: 'warm' };
    if (job.kind === 'inspect') return { ok: true, kind: 'inspect', key: await inspectPublicKey(job.publicKey) };
    const scorer = await scorerOf(readFrameHeader('request', job.request).preset);
    const reply = scorer.score(job.model, job.publicKey, job.request);
    // After the answer has been posted, so that the next reply finds its encryption of zero ready.
    setImmediate(() => scorer.refill());
    return { ok: true, kind: 'score', reply };
  } catch (error) {
    if (error instanceof EncryptionError) {
      return { ok: false, code: error.code, message: error.message, where: error.where, fix: error.fix };
    }
    throw error;
  }
}

// A promise: the pool hands out no job before both presets are loaded, so loading never counts against a job's time.
export default Promise.all([scorerOf('standard'), scorerOf('conservative')]).then(() => run);
