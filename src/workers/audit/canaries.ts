/** The mechanisms that can be audited, by name. */
import { openAdaSspCanary } from './adasspCanary.ts';
import { openRotatedCanary } from './rotatedCanary.ts';
import { openScorecardCanary } from './scorecardCanary.ts';
import type { AuditSetting, Canary } from './setting.ts';
import { openSgdCanary } from './sgdCanary.ts';

/**
 * Prepares a mechanism for trials.
 *
 * @throws PrivacyError PRIVACY_PARAMETER, LearningError TRAINING_INPUT for a promise the mechanism cannot make.
 */
export function openCanary(setting: AuditSetting): Canary {
  const { mechanism } = setting;
  if (mechanism === 'dpsgd') return openSgdCanary(setting);
  if (mechanism === 'rotated') return openRotatedCanary(setting);
  if (mechanism === 'adassp') return openAdaSspCanary(setting);
  return openScorecardCanary({ ...setting, mechanism });
}
