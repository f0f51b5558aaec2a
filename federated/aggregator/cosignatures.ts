/**
 * Cosignatures of the aggregator's log, as the sites send them along with other messages.
 *
 * The newest of each site is verified and written at most a second later, all sites' together: a commit for each would
 * cost every round as many as there are sites, and a newer one says more than those before it. Limit: what is lost with
 * the process is not asked for again.
 */

import type pg from 'pg';
import { encodeWitnessKey, parseWitnessKey, verifyCosignature } from '../../src/audit/cosignature.ts';
import { AuditError } from '../../src/errors.ts';
import { cosignedSize, keepCosignature, type StoredCosignature } from '../../src/journal/cosignatures.ts';
import type { Log } from '../../src/log.ts';
import { siteWitnessName } from '../protocol/logNames.ts';
import type { Roster } from '../protocol/roster.ts';
import { transaction } from './store/database.ts';

const PAUSE_MS = 1_000;

interface Waiting {
  line: string;
  /** Notes it may be for, likeliest first. */
  notes: readonly string[];
}

export class Cosignatures {
  readonly #pool: pg.Pool;
  readonly #log: Log;
  /** Site -> its verifier key as a witness. */
  readonly #witnesses: ReadonlyMap<string, string>;
  readonly #waiting = new Map<string, Waiting>();
  #writing: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | null = null;

  constructor(pool: pg.Pool, roster: Roster, log: Log) {
    this.#pool = pool;
    this.#log = log;
    this.#witnesses = new Map(
      roster.sites.map(({ id, identityKey }) => [
        id,
        encodeWitnessKey(siteWitnessName(id), Buffer.from(identityKey, 'base64')),
      ]),
    );
  }

  /** Keeps the line, in the place of one of this site that waits, if it is a cosignature of one of `notes`. */
  add(site: string, line: string, notes: readonly string[]): void {
    this.#waiting.set(site, { line, notes });
    this.#timer ??= setTimeout(() => void this.flush(), PAUSE_MS).unref();
  }

  /** Size of the newest head a site cosigned, 0 for none. */
  async sizeOf(site: string): Promise<number> {
    return cosignedSize(this.#pool, this.#witnesses.get(site) ?? '');
  }

  /** Makes durable what was added, as far as that succeeds. */
  flush(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#writing = this.#writing.then(() => this.#write());
    return this.#writing;
  }

  async #write(): Promise<void> {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    try {
      const verified = await Promise.all(waiting.map(([site, one]) => this.#verify(site, one)));
      const some = verified.filter((one) => one !== null);
      if (some.length === 0) return;
      await transaction(this.#pool, async (client) => {
        for (const one of some) await keepCosignature(client, one);
      });
    } catch (error) {
      this.#log.warn({ err: error, cosignatures: waiting.length }, 'cosignatures could not be kept');
    }
  }

  async #verify(site: string, { line, notes }: Waiting): Promise<StoredCosignature | null> {
    const witness = this.#witnesses.get(site) ?? '';
    for (const checkpoint of notes) {
      try {
        await verifyCosignature(checkpoint, line, parseWitnessKey(witness));
        return { witness, checkpoint, line };
      } catch (error) {
        if (!(error instanceof AuditError)) throw error;
      }
    }
    this.#log.warn({ site }, 'a cosignature fits none of the heads this site was shown');
    return null;
  }
}
