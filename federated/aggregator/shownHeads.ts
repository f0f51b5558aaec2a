/**
 * Which head of the log a site is shown, and the proof from the one it knows.
 *
 * A site reads its stream in order and says at its start how far it knows the log (Listen.log_size), so after a head was
 * sent the next proof on that stream starts there; a stream that lingers after its connection broke is another matter. Where that is wrong, because a connection broke in between, the site refuses the head
 * as stale and connects again. Limit: a site that claims more of the log than there is gets no proof; if the claim is
 * true, this database is older than what the site has seen, and the site will say so.
 */
import { parseCheckpoint } from '../../src/audit/checkpoint.ts';
import { type LogKeeper, type Queryable, readHeadRow } from '../../src/journal/head.ts';
import { proveConsistency } from '../../src/journal/prover.ts';
import type { Log } from '../../src/log.ts';
import type { LogHeadInit, RoundName } from './log.ts';

/** Heads of rounds, and notes a site was shown lately: only so many are of use at once. */
const KEPT = 64;
const KEPT_FOR_A_SITE = 8;

export class ShownHeads {
  readonly #db: Queryable;
  readonly #keeper: LogKeeper;
  readonly #log: Log;
  readonly #known = new Map<string, number>();
  /** The same of each open stream. */
  readonly #onStream = new WeakMap<object, number>();
  readonly #shown = new Map<string, string[]>();
  readonly #rounds = new Map<string, Promise<string | null>>();
  /** All sites go the same way from one round to the next. */
  readonly #proofs = new Map<string, Promise<Uint8Array<ArrayBuffer>[]>>();

  constructor(db: Queryable, keeper: LogKeeper, log: Log) {
    this.#db = db;
    this.#keeper = keeper;
    this.#log = log;
  }

  /** A new stream of a site, which knows the log up to `size`. */
  listening(site: string, size: number, stream?: object): void {
    this.#known.set(site, size);
    if (stream !== undefined) this.#onStream.set(stream, size);
  }

  /** @param cosigned how far the site is known to have seen the log when it has not said so. */
  async headFor(
    site: string,
    round: RoundName | undefined,
    cosigned: () => Promise<number>,
    stream?: object,
  ): Promise<LogHeadInit> {
    const checkpoint = await this.#noteOf(round);
    const { size } = parseCheckpoint(checkpoint);
    const told = stream === undefined ? this.#known.get(site) : this.#onStream.get(stream);
    const known = told ?? (await cosigned());
    const proof = await this.#proofBetween(site, known, size);
    this.#known.set(site, Math.max(known, size));
    if (stream !== undefined) this.#onStream.set(stream, Math.max(known, size));
    this.#shown.set(site, [...(this.#shown.get(site) ?? []), checkpoint].slice(-KEPT_FOR_A_SITE));
    return { checkpoint, oldSize: BigInt(known), proof };
  }

  /** Notes a cosignature of the site may be for, likeliest first. */
  async shownTo(site: string, round: RoundName | undefined): Promise<string[]> {
    const notes = [...(this.#shown.get(site) ?? [])].reverse();
    // Another process of this aggregator may have shown it.
    if (round !== undefined) notes.unshift(await this.#noteOf(round));
    return [...new Set(notes)];
  }

  async #noteOf(round: RoundName | undefined): Promise<string> {
    const name = round === undefined ? null : `${round.planId} ${round.round} ${round.attempt}`;
    if (round !== undefined && name !== null) {
      // One look for all sites that ask at once; what was not there, or could not be read, is looked for again.
      const opened = this.#rounds.get(name) ?? keep(this.#rounds, name, roundHead(this.#db, round));
      const note = await opened.catch((error) => {
        this.#rounds.delete(name);
        throw error;
      });
      if (note !== null) return note;
      this.#rounds.delete(name);
    }
    const { newest } = this.#keeper;
    const row = await readHeadRow(this.#db);
    await this.#keeper.check(row, newest);
    return row.checkpoint;
  }

  async #proofBetween(site: string, known: number, size: number): Promise<Uint8Array<ArrayBuffer>[]> {
    if (known === 0 || known === size) return [];
    const [from, to] = known < size ? [known, size] : [size, known];
    if (to > size && (await readHeadRow(this.#db)).size < to) {
      this.#log.error(
        { site, known, size },
        'a site has seen more of the log than this database holds: it was set back',
      );
      return [];
    }
    const name = `${from} ${to}`;
    const made = this.#proofs.get(name);
    if (made !== undefined) return made;
    const proof = proveConsistency(this.#db, from, to).then((hashes) => hashes.map((hash) => new Uint8Array(hash)));
    proof.catch(() => this.#proofs.delete(name));
    return keep(this.#proofs, name, proof);
  }
}

/** Keeps the head that the opening of a round left, in its transaction. */
export async function keepRoundHead(client: Queryable, name: RoundName, checkpoint: string): Promise<void> {
  await client.query({
    name: 'keep-round-head',
    text: `INSERT INTO round_heads (plan_id, round, attempt, size, checkpoint) VALUES ($1, $2, $3, $4, $5)
           ON CONFLICT DO NOTHING`,
    values: [name.planId, name.round, name.attempt, parseCheckpoint(checkpoint).size, checkpoint],
  });
}

async function roundHead(db: Queryable, { planId, round, attempt }: RoundName): Promise<string | null> {
  const { rows } = await db.query<{ checkpoint: string }>({
    name: 'round-head',
    text: 'SELECT checkpoint FROM round_heads WHERE plan_id = $1 AND round = $2 AND attempt = $3',
    values: [planId, round, attempt],
  });
  return rows[0]?.checkpoint ?? null;
}

function keep<T>(map: Map<string, T>, name: string, value: T): T {
  map.set(name, value);
  for (const oldest of map.keys()) {
    if (map.size <= KEPT) break;
    map.delete(oldest);
  }
  return value;
}
