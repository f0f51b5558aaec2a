/** What is audited: plain data, so that it crosses to the thread that runs the trials. */
import type { PrivacyCurve } from '../../privacy/canary.ts';
import type { RandomSource } from '../../random.ts';

/**
 * `scorecard`: all releases of a plan together; `sum`: the same in trust mode `sum`; `counts`, `round`, `histogram`: one
 * release of a plan; `dpsgd`: the steps of a DP-SGD training; `rotated`: the rounds of a dense plan in trust mode `sum`;
 * `adassp`: the one release of AdaSSP.
 */
export const MECHANISMS = ['scorecard', 'sum', 'counts', 'round', 'histogram', 'dpsgd', 'rotated', 'adassp'] as const;
export type MechanismName = (typeof MECHANISMS)[number];

/** Faults put in on purpose, to show that the audit finds them. */
export const FAULTS = ['none', 'noise', 'sensitivity'] as const;
export type Fault = (typeof FAULTS)[number];

export interface AuditSetting {
  readonly mechanism: MechanismName;
  readonly broken: Fault;
  /** Promised loss of all releases of the plan or training. */
  readonly epsilon: number;
  readonly delta: number;
}

/** What is promised about one customer for the releases under audit. */
export interface Promised {
  readonly epsilon: number;
  readonly delta: number;
  /** What the accountant makes of it at every delta: mu-GDP, or the delta of DP-SGD at some epsilons. */
  readonly booked: { readonly mu: number } | { readonly curve: PrivacyCurve };
}

/** What is run, who attacks, and what, if anything, was broken. */
export interface About {
  readonly mechanism: string;
  readonly attacker: string;
  readonly fault: string;
}

export interface Canary {
  readonly about: About;
  /** Of the sound mechanism. Computed when asked for: a curve takes a second. */
  promised(): Promised;
  /** Runs the mechanism once and returns the attacker's statistic; larger speaks for the customer's presence. */
  trial(isPresent: boolean, random: RandomSource): number;
}
