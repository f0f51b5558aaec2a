/** What is audited: plain data, so that it crosses to the thread that runs the trials. */
import type { RandomSource } from '../../random.ts';

/** `scorecard`: all releases of a plan together; `counts`, `round`: one of them; `sum`: a plan in trust mode `sum`. */
export const MECHANISMS = ['scorecard', 'sum', 'counts', 'round'] as const;
export type MechanismName = (typeof MECHANISMS)[number];

/** Faults put in on purpose, to show that the audit finds them. */
export const FAULTS = ['none', 'noise', 'sensitivity'] as const;
export type Fault = (typeof FAULTS)[number];

export interface AuditSetting {
  readonly mechanism: MechanismName;
  readonly broken: Fault;
  /** Promised loss of all audited releases together. */
  readonly epsilon: number;
  readonly delta: number;
}

/** What the mechanism promises about one customer. */
export interface Promise {
  readonly epsilon: number;
  readonly delta: number;
  /** The promise as the ledger books it. */
  readonly mu: number;
}

export interface Canary {
  /** What is run and what, if anything, is wrong with it; one sentence each. */
  readonly about: { readonly mechanism: string; readonly attacker: string; readonly fault: string };
  readonly promise: Promise;
  /** Runs the mechanism once and returns the attacker's statistic; larger speaks for the customer's presence. */
  trial(isPresent: boolean, random: RandomSource): number;
}
