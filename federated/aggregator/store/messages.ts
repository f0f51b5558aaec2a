/**
 * The sites' messages: stored once, durable before they are acknowledged, many with one commit.
 *
 * Group commit: while one statement runs, messages that arrive wait and go into the next together; under load a
 * round's messages cost a few disk flushes instead of one each. Limit: one statement at a time in each process.
 */

import type pg from 'pg';
import { FederationError } from '../../../src/errors.ts';
import { CHANNEL } from './notifications.ts';

export type MessageKindStored = 'update' | 'keys' | 'shares' | 'agreement' | 'reveal';

/** The place of a message: a site has one message in each. */
export interface MessagePlace {
  readonly planId: string;
  readonly kind: MessageKindStored;
  /** The epoch for keys and shares. */
  readonly round: number;
  /** 0 for keys, shares and updates of plain rounds. */
  readonly attempt: number;
  readonly site: string;
}

export interface MessageRow extends MessagePlace {
  readonly messageId: string;
  /** SHA-256 of the body, 64 hex. */
  readonly bodyDigest: string;
  /** SignedEnvelope, protobuf bytes. */
  readonly envelope: Uint8Array;
  readonly refused: boolean;
}

interface Waiting {
  row: MessageRow;
  done: (stored: boolean) => void;
  failed: (error: unknown) => void;
}

const COLUMNS = 9;
/** A statement has at most 65,535 parameters, and one that is too large holds up the others. */
const MOST_ROWS = 500;
const MOST_BYTES = 8 * 1024 * 1024;

export class MessageStore {
  readonly #pool: pg.Pool;
  readonly #process: string;
  #waiting: Waiting[] = [];
  #writing = false;

  /** @param process name of this process: it does not listen to its own notifications. */
  constructor(pool: pg.Pool, process: string) {
    this.#pool = pool;
    this.#process = process;
  }

  /** Resolves once the message is durable, new or as it was before. Throws MESSAGE_REPLAYED when another one is there. */
  async store(row: MessageRow): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    this.#waiting.push({ row, done: resolve, failed: reject });
    void this.#write();
    if (await promise) return;
    if (!(await this.isStored(row))) throw replayed();
  }

  /** Whether this very message is stored. Throws MESSAGE_REPLAYED when another one has its place or its id. */
  async isStored(row: Omit<MessageRow, 'envelope' | 'refused'>): Promise<boolean> {
    const { rows } = await this.#pool.query<{ same: boolean }>({
      name: 'stored-message',
      text: `SELECT plan_id = $1 AND kind = $2 AND round = $3 AND attempt = $4 AND message_id = $6
               AND body_digest = $7 AS same FROM messages
             WHERE (plan_id = $1 AND kind = $2 AND round = $3 AND attempt = $4 AND site = $5)
                OR (site = $5 AND message_id = $6)`,
      values: [row.planId, row.kind, row.round, row.attempt, row.site, row.messageId, row.bodyDigest],
    });
    if (rows.some(({ same }) => !same)) throw replayed();
    return rows.length > 0;
  }

  async #write(): Promise<void> {
    if (this.#writing) return;
    this.#writing = true;
    try {
      // What arrived in this turn of the event loop goes along.
      await new Promise((next) => setImmediate(next));
      while (this.#waiting.length > 0) {
        const batch = this.#take();
        try {
          const stored = await this.#insert(batch.map(({ row }) => row));
          for (const { row, done } of batch) done(stored.has(placeKey(row)));
        } catch (error) {
          for (const { failed } of batch) failed(error);
        }
      }
    } finally {
      this.#writing = false;
    }
  }

  #take(): Waiting[] {
    const places = new Set<string>();
    const batch: Waiting[] = [];
    const later: Waiting[] = [];
    let bytes = 0;
    for (const each of this.#waiting) {
      const key = placeKey(each.row);
      const fits = batch.length < MOST_ROWS && (batch.length === 0 || bytes + each.row.envelope.length <= MOST_BYTES);
      // Two copies of one message in one statement would both count as stored by it.
      if (!fits || places.has(key)) later.push(each);
      else {
        places.add(key);
        batch.push(each);
        bytes += each.row.envelope.length;
      }
    }
    this.#waiting = later;
    return batch;
  }

  async #insert(batch: readonly MessageRow[]): Promise<Set<string>> {
    const values: unknown[] = [];
    const tuples = batch.map((row) => {
      values.push(row.planId, row.kind, row.round, row.attempt, row.site, row.messageId, row.bodyDigest);
      values.push(Buffer.from(row.envelope.buffer, row.envelope.byteOffset, row.envelope.byteLength), row.refused);
      const from = values.length - COLUMNS;
      return `(${Array.from({ length: COLUMNS }, (_, index) => `$${from + index + 1}`).join(', ')})`;
    });
    const plans = [...new Set(batch.map((row) => row.planId))];
    values.push(CHANNEL, ...plans.map((plan) => `${this.#process} ${plan}`));
    const channel = values.length - plans.length;
    const notices = plans.map((_, index) => `pg_notify($${channel}, $${channel + index + 1})`).join(', ');
    const { rows } = await this.#pool.query<{ places: string[] | null }>({
      // Prepared once on each connection for the sizes a small consortium has.
      ...(batch.length <= 16 && plans.length === 1 ? { name: `store-${batch.length}` } : {}),
      text: `WITH stored AS (
               INSERT INTO messages (plan_id, kind, round, attempt, site, message_id, body_digest, envelope, refused)
               VALUES ${tuples.join(', ')} ON CONFLICT DO NOTHING
               RETURNING plan_id || ' ' || kind || ' ' || round || ' ' || attempt || ' ' || site AS place)
             SELECT (SELECT array_agg(place) FROM stored) AS places, ${notices}`,
      values,
    });
    return new Set(rows[0].places);
  }
}

function placeKey({ planId, kind, round, attempt, site }: MessagePlace): string {
  return `${planId} ${kind} ${round} ${attempt} ${site}`;
}

export function replayed(
  message = 'This site has already sent another message for this step or under this id.',
): FederationError {
  return new FederationError('MESSAGE_REPLAYED', message, {
    where: 'message_id',
    fix: 'Send the very same message again, or none.',
  });
}
