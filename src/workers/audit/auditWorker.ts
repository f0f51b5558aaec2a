/** The thread of the audit pool: runs trials with the operating system's randomness, as a node does. */
import type { Trials } from '../../privacy/canary.ts';
import { systemRandom } from '../../random.ts';
import type { AuditJob } from './auditPool.ts';
import { openCanary } from './canaries.ts';

const random = systemRandom();

export default function run({ setting, without, present }: AuditJob): Trials {
  const canary = openCanary(setting);
  return {
    without: Float64Array.from({ length: without }, () => canary.trial(false, random)),
    with: Float64Array.from({ length: present }, () => canary.trial(true, random)),
  };
}
