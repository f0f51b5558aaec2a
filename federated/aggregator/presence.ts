/**
 * Which sites are connected, to whichever process, and as which incarnation of theirs.
 *
 * A connection is a row that its process renews; a process that dies stops renewing. Limit: another process's sites
 * are known as of the last notice or poll. It decides whom a step waits for and nothing else.
 */

import type { Database } from './store/database.ts';
import { notify, PRESENCE } from './store/notifications.ts';

/** A process that has not renewed its rows for so long is gone. */
const STALE_MS = 5_000;

interface Known {
  incarnation: string;
  connected: boolean;
}

export class Presence {
  readonly #database: Database;
  readonly #process: string;
  /** Streams of this process: site -> open ones, and the incarnation of the newest. */
  readonly #here = new Map<string, { streams: number; incarnation: string }>();
  #elsewhere = new Map<string, Known>();

  constructor(database: Database, process: string) {
    this.#database = database;
    this.#process = process;
  }

  connected(site: string): boolean {
    return (this.#here.get(site)?.streams ?? 0) > 0 || this.#elsewhere.get(site)?.connected === true;
  }

  /** The newest that is known, also of a site that is away; undefined of one that was never seen. */
  incarnation(site: string): string | undefined {
    const here = this.#here.get(site);
    const elsewhere = this.#elsewhere.get(site);
    // The row is of the last connection: one to another process is newer than a stream that lingers here.
    return here !== undefined && here.streams > 0 && !elsewhere?.connected ? here.incarnation : elsewhere?.incarnation;
  }

  /** Notes a stream. @returns what to call when it ends. */
  async enter(site: string, incarnation: string): Promise<() => Promise<void>> {
    await this.#write(
      `INSERT INTO presences (site, incarnation, process, connected, seen_at) VALUES ($1, $3, $2, true, clock_timestamp())
       ON CONFLICT (site) DO UPDATE SET incarnation = $3, process = $2, connected = true, seen_at = clock_timestamp()`,
      [site, this.#process, incarnation],
    );
    const here = this.#here.get(site) ?? { streams: 0, incarnation };
    here.streams++;
    here.incarnation = incarnation;
    this.#here.set(site, here);
    this.#elsewhere.delete(site);
    return async () => {
      here.streams--;
      if (here.streams > 0) return;
      this.#elsewhere.set(site, { incarnation: here.incarnation, connected: false });
      // Not when it has connected to another process meanwhile.
      await this.#write('UPDATE presences SET connected = false WHERE site = $1 AND process = $2', [
        site,
        this.#process,
      ]);
    };
  }

  /** Renews the rows of this process and reads those of others. @returns whether anything changed. */
  async refresh(): Promise<boolean> {
    const connected = [...this.#here].filter(([, { streams }]) => streams > 0).map(([site]) => site);
    if (connected.length > 0) {
      await this.#database.pool.query({
        name: 'renew-presences',
        text: 'UPDATE presences SET seen_at = clock_timestamp() WHERE process = $1 AND connected AND site = ANY($2)',
        values: [this.#process, connected],
      });
    }
    return this.read();
  }

  /** Reads where sites are. @returns whether anything changed. */
  async read(): Promise<boolean> {
    const { rows } = await this.#database.pool.query<Known & { site: string }>({
      name: 'read-presences',
      text: `SELECT site, incarnation,
               process <> $1 AND connected AND seen_at > clock_timestamp() - $2 * interval '1 ms' AS connected
             FROM presences`,
      values: [this.#process, STALE_MS],
    });
    const before = this.#elsewhere;
    this.#elsewhere = new Map(rows.map(({ site, incarnation, connected }) => [site, { incarnation, connected }]));
    return rows.some(({ site, incarnation, connected }) => {
      const known = before.get(site);
      return known?.incarnation !== incarnation || known.connected !== connected;
    });
  }

  async #write(text: string, values: unknown[]): Promise<void> {
    await this.#database.pool.query(text, values);
    await notify(this.#database.pool, this.#process, PRESENCE);
  }
}
