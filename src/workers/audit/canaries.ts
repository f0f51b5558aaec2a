/** The mechanisms that can be audited, by name. */
import { openScorecardCanary } from './scorecardCanary.ts';
import type { AuditSetting, Canary } from './setting.ts';

/**
 * Prepares a mechanism for trials.
 *
 * @throws PrivacyError PRIVACY_PARAMETER, LearningError TRAINING_INPUT for a promise the mechanism cannot make.
 */
export function openCanary(setting: AuditSetting): Canary {
  const { mechanism } = setting;
  switch (mechanism) {
    case 'scorecard':
    case 'sum':
    case 'counts':
    case 'round':
      return openScorecardCanary({ ...setting, mechanism });
  }
}
