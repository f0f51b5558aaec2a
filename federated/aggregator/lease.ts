/**
 * Leases: which process takes a plan's steps.
 *
 * A lease ends by the database's clock unless it is renewed; who takes it over gets a higher token, and every step
 * verifies the token under the plan's row lock (fencing: M. Kleppmann, "How to do distributed locking"; Gray and
 * Cheriton, "Leases", SOSP 1989). So a process that was merely slow, or whose clock is wrong, can do nothing twice.
 */

import type { Database } from './store/database.ts';

const LEASE_MS = 3_000;

export class Leases {
  readonly #database: Database;
  readonly #process: string;
  readonly #tokens = new Map<string, number>();

  constructor(database: Database, process: string) {
    this.#database = database;
    this.#process = process;
  }

  /** The token this process believes to hold. */
  tokenOf(planId: string): number | undefined {
    return this.#tokens.get(planId);
  }

  held(): Iterable<string> {
    return this.#tokens.keys();
  }

  /** Somebody else has it: a step with our token was refused. */
  lost(planId: string): void {
    this.#tokens.delete(planId);
  }

  /** Keeps what is held, and takes what nobody holds: of the named plan, or of all open ones. */
  async renew(planId?: string): Promise<void> {
    const { rows } = await this.#database.pool.query<{ id: string; lease_token: number }>({
      name: planId === undefined ? 'renew-leases' : 'renew-lease',
      // Rows another process is just changing are its own; waiting for them would hold up the renewal of ours.
      text: `UPDATE plans SET lease_holder = $1, lease_expires_at = clock_timestamp() + $2 * interval '1 ms',
               lease_token = lease_token + CASE WHEN lease_holder = $1 THEN 0 ELSE 1 END
             WHERE id IN (SELECT id FROM plans WHERE ended_at IS NULL
               AND (lease_holder = $1 OR lease_expires_at IS NULL OR lease_expires_at < clock_timestamp())
               ${planId === undefined ? '' : 'AND id = $3'} FOR NO KEY UPDATE SKIP LOCKED)
             RETURNING id, lease_token`,
      values: planId === undefined ? [this.#process, LEASE_MS] : [this.#process, LEASE_MS, planId],
    });
    for (const { id, lease_token } of rows) this.#tokens.set(id, lease_token);
  }

  /** Gives everything back at once, so that another process need not wait. */
  async release(): Promise<void> {
    this.#tokens.clear();
    await this.#database.pool.query(
      // Not the time of day: the column rounds to milliseconds, and half of one too late is still held.
      'UPDATE plans SET lease_expires_at = NULL WHERE lease_holder = $1 AND ended_at IS NULL',
      [this.#process],
    );
  }
}
