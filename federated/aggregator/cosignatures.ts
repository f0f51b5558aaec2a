/**
 * Cosignatures of the aggregator's log, as the sites send them along with other messages.
 *
 * They are verified as they come and written together, at most a second later: a commit for each would cost every round
 * as many as there are sites. Limit: one that is lost with the process is not asked for again; the next one says more.
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

export class Cosignatures {
  readonly #pool: pg.Pool;
  readonly #log: Log;
  /** Site -> its verifier key as a witness. */
  readonly #witnesses: ReadonlyMap<string, string>;
  #waiting: StoredCosignature[] = [];
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

  /** Keeps the line if it is the site's cosignature of one of `notes`. */
  async add(site: string, line: string, notes: readonly string[]): Promise<void> {
    const witness = this.#witnesses.get(site);
    if (witness === undefined) return;
    for (const checkpoint of notes) {
      try {
        await verifyCosignature(checkpoint, line, parseWitnessKey(witness));
      } catch (error) {
        if (!(error instanceof AuditError)) throw error;
        continue;
      }
      this.#waiting.push({ witness, checkpoint, line });
      this.#timer ??= setTimeout(() => void this.flush(), PAUSE_MS).unref();
      return;
    }
    this.#log.warn({ site }, 'a cosignature fits none of the heads this site was shown');
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
    const some = this.#waiting.splice(0);
    if (some.length === 0) return;
    try {
      await transaction(this.#pool, async (client) => {
        for (const one of some) await keepCosignature(client, one);
      });
    } catch (error) {
      this.#log.warn({ err: error, cosignatures: some.length }, 'cosignatures could not be kept');
    }
  }
}
