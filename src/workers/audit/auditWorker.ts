/** The thread of the audit pool: runs trials with the operating system's randomness, as a node does. */
import { VeilriskError } from '../../errors.ts';
import { systemRandom } from '../../random.ts';
import type { AuditJob, AuditOutcome } from './auditPool.ts';
import { openCanary } from './canaries.ts';
import type { AuditSetting, Canary } from './setting.ts';

const random = systemRandom();
// Calibrating noise can take longer than a job's trials.
const opened = new Map<string, Canary>();

export default function run({ setting, trials }: AuditJob): AuditOutcome {
  try {
    const canary = canaryFor(setting);
    if (trials === 0) return { kind: 'description', about: canary.about, promised: canary.promised() };
    const draw = (isPresent: boolean) => Float64Array.from({ length: trials }, () => canary.trial(isPresent, random));
    return { kind: 'trials', without: draw(false), with: draw(true) };
  } catch (error) {
    // As data: a structured clone loses class and code.
    if (!(error instanceof VeilriskError)) throw error;
    return { kind: 'refused', message: error.message, where: error.where ?? setting.mechanism };
  }
}

function canaryFor(setting: AuditSetting): Canary {
  const key = JSON.stringify(setting);
  const canary = opened.get(key) ?? openCanary(setting);
  opened.set(key, canary);
  return canary;
}
