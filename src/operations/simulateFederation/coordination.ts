/** What the simulated aggregator is given, and what it tells about a round that has closed. */
import type { EpochContext } from '../../../federated/secagg/epoch.ts';
import type { Phase, TaskInit } from './messages.ts';
import type { Observer } from './observer.ts';
import type { VirtualClock } from './virtualClock.ts';
import type { Workload } from './workload.ts';

export interface ClosedRound {
  round: number;
  masked: boolean;
  contributors: string[];
  /** How often the sum was begun. */
  attempts: number;
  /** Key set-ups during the round. */
  epochs: number;
  /** Whether the sum equals the plain sum of what the contributors released. */
  exact: boolean;
}

export interface CoordinatorOptions {
  readonly sites: readonly string[];
  readonly work: Workload;
  readonly clock: VirtualClock;
  readonly observer: Observer;
  readonly epochContext: (epoch: number) => EpochContext;
  readonly slots: number;
  /** Sends a task to a site. */
  readonly send: (site: string, phase: Phase, task: TaskInit) => void;
  readonly onRound: (closed: ClosedRound) => void;
  /** @param code empty when the plan was completed. */
  readonly onEnd: (code: string) => void;
}
