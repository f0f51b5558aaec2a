/**
 * The audited hot path: decisions and single entries of concurrent calls share transactions (group commit).
 *
 * While one group is being committed, further calls wait and become the next group, so the wait is at most one commit
 * and a lone call waits for nothing. Everything of a group is written with at most one statement a table, over plain `pg`:
 * through an ORM one row at a time this path is two orders of magnitude slower. A call resolves after COMMIT only.
 *
 * An answer that a meter counts is counted here, in the order of the calls and under the log's lock (meters.ts). A call
 * over its limit fails alone; a repeated decision counts nothing.
 */
import type pg from 'pg';
import { bytesToHex } from '../audit/bytes.ts';
import { type EntryDraft, entryBytes } from '../audit/entry.ts';
import { leafHash } from '../audit/tree.ts';
import { asStoreError, mapped } from '../database/failures.ts';
import { StoreError } from '../errors.ts';
import type { LogKeeper } from '../journal/head.ts';
import { type AuditPosition, Sequencer } from '../journal/sequencer.ts';
import { type AnchorKeeper, needsAnchor } from './anchor.ts';
import { type MeterDraft, type Metered, MeterGroup } from './meters.ts';
import type { PersonalValue } from './personal.ts';

export interface DecisionDraft {
  /** Unique id of the decision, made by the node. */
  id: string;
  /** Prefix of the API key that asked. */
  apiKey: string;
  /** The caller's key for repeated requests; null when it gave none. */
  idempotencyKey: string | null;
  /** Hex hash of the canonical request body. */
  bodyHash: string;
  modelHash: string;
  /** The reply as JSON text, without its audit position. */
  reply: string;
  entry: EntryDraft;
  personal?: readonly PersonalValue[];
}

export interface RecordedDecision extends AuditPosition {
  id: string;
  /** The reply that was stored first; the caller's own unless `replayed`. */
  reply: string;
  /** True when an earlier request with the same key and body was answered before. */
  replayed: boolean;
  /** Where the meter stands after this answer; null when it has none. */
  metered: Metered | null;
}

export interface AppendedEntry extends AuditPosition {
  /** Where the meter stands after this answer; null when it has none. */
  metered: Metered | null;
}

interface Item {
  bytes: Uint8Array;
  /** The entry when the meter has counted the same before. */
  repeatedBytes: Uint8Array;
  decision: DecisionDraft | null;
  meter: MeterDraft | null;
  /** The call resolves only when its checkpoint is kept outside the database as well. */
  anchored: boolean;
  done(result: RecordedDecision): void;
  fail(error: unknown): void;
}

/** An item that the log takes in. */
interface Fresh {
  item: Item;
  bytes: Uint8Array;
  metered: Metered | null;
}

interface StoredRow {
  id: string;
  api_key: string;
  idempotency_key: string;
  body_hash: string;
  reply: string;
  audit_index: number;
  bytes: Buffer;
}

// The statements of a group look rows up by key, and their plans are kept: one made while a table was small must not read
// it as a whole when it is large.
const BEGIN = 'BEGIN; SET LOCAL enable_seqscan = off';
const MOST_IN_GROUP = 1_000;
const SELECT_STORED = `SELECT d.id, d.api_key, d.idempotency_key, d.body_hash, d.reply,
    d.audit_index::float8 AS audit_index, e.bytes
  FROM decisions d JOIN audit_entries e ON e.index = d.audit_index`;
const FIND_STORED = {
  name: 'veilrisk-find-decisions',
  text: `${SELECT_STORED} WHERE (d.api_key, d.idempotency_key) IN (SELECT * FROM unnest($1::text[], $2::text[]))
    UNION ${SELECT_STORED} WHERE d.id = ANY($3::text[])`,
};
// Both tables with one statement: a lone call waits for every round trip of its group.
const INSERT_DECISIONS = {
  name: 'veilrisk-insert-decisions',
  text: `WITH opened AS (
      INSERT INTO personal (audit_index, name, subject, salt, value)
      SELECT * FROM unnest($8::bigint[], $9::text[], $10::bytea[], $11::bytea[], $12::bytea[]))
    INSERT INTO decisions (id, api_key, idempotency_key, body_hash, reply, model_hash, audit_index)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[])`,
};

export class DecisionRecorder {
  readonly #pool: pg.Pool;
  readonly #keeper: LogKeeper;
  readonly #waiting: Item[] = [];
  readonly #anchor: AnchorKeeper | null;
  #running: Promise<void> | null = null;

  constructor(pool: pg.Pool, keeper: LogKeeper, anchor: AnchorKeeper | null = null) {
    this.#pool = pool;
    this.#keeper = keeper;
    this.#anchor = anchor;
  }

  /**
   * Stores a decision with its audit entry; resolves when both are durable.
   * @param meter what the decision counts unless it is a repeated one
   * @throws StoreError IDEMPOTENCY_CONFLICT for the same key with another body; ALREADY_EXISTS for the same id;
   *   DATABASE_UNAVAILABLE; AuditError AUDIT_ENTRY_INVALID; RequestError VECTOR_LIMIT, REQUEST_REPLAYED: nothing is written.
   */
  async record(decision: DecisionDraft, meter: MeterDraft | null = null): Promise<RecordedDecision> {
    const bytes = entryBytes(decision.entry, new Date());
    return this.#enqueue({ bytes, repeatedBytes: bytes, decision, meter, anchored: false });
  }

  /**
   * Appends an entry that stands alone, e.g. a refusal; resolves when it is durable.
   * @param meter what the answer counts that the entry records; the entry's details then gain `repeated`
   * @throws as `record`, but nothing about keys
   */
  async append(entry: EntryDraft, meter: MeterDraft | null = null): Promise<AppendedEntry> {
    const now = new Date();
    // Both forms are made before the lock: which of them is true is known only under it.
    const bytesIf = (repeated: boolean) => entryBytes({ ...entry, details: { ...entry.details, repeated } }, now);
    const bytes = meter === null ? entryBytes(entry, now) : bytesIf(false);
    const repeatedBytes = meter === null ? bytes : bytesIf(true);
    const anchored = needsAnchor(entry);
    const result = await this.#enqueue({ bytes, repeatedBytes, decision: null, meter, anchored });
    return { index: result.index, leafHash: result.leafHash, metered: result.metered };
  }

  /** The stored answer of a key, or null: lets a repeated request skip its work. @throws StoreError IDEMPOTENCY_CONFLICT. */
  async findReplay(apiKey: string, idempotencyKey: string, bodyHash: string): Promise<RecordedDecision | null> {
    const { rows } = await mapped(
      this.#pool.query<StoredRow>({ ...FIND_STORED, values: [[apiKey], [idempotencyKey], []] }),
    );
    return rows.length === 0 ? null : replay(rows[0], bodyHash, null);
  }

  /** Resolves when everything enqueued so far is durable or has failed. */
  async drain(): Promise<void> {
    while (this.#running !== null) await this.#running;
  }

  #enqueue(item: Omit<Item, 'done' | 'fail'>): Promise<RecordedDecision> {
    return new Promise((done, fail) => {
      this.#waiting.push({ ...item, done, fail });
      this.#running ??= this.#run().finally(() => {
        this.#running = null;
      });
    });
  }

  async #run(): Promise<void> {
    // One turn of the event loop, so that calls that arrive together start together.
    await new Promise((next) => setImmediate(next));
    while (this.#waiting.length > 0) {
      const group = this.#waiting.splice(0, MOST_IN_GROUP);
      try {
        const settled = await this.#commit(group);
        if (group.some(({ anchored }) => anchored)) await this.#anchor?.write();
        else this.#anchor?.writeLater();
        for (const settle of settled) settle();
      } catch (error) {
        const mapped = asStoreError(error);
        for (const item of group) item.fail(mapped);
      }
    }
  }

  /** Writes a group in one transaction; what it returns is called only after COMMIT. */
  async #commit(group: readonly Item[]): Promise<(() => void)[]> {
    const client = await this.#pool.connect();
    let broken: Error | undefined;
    let committing = false;
    try {
      await client.query(BEGIN);
      const sequencer = new Sequencer(client, this.#keeper);
      await sequencer.lock();
      const meters = await MeterGroup.read(
        client,
        group.flatMap(({ meter }) => meter ?? []),
        'veilrisk-read-meters',
      );
      const { fresh, settled } = await sortOut(client, group, meters);
      const positions = await sequencer.append(fresh.map(({ bytes }) => bytes));
      await insertRows(client, fresh, positions);
      await meters.write(client);
      await sequencer.finish();
      committing = true;
      await client.query('COMMIT');
      sequencer.committed();
      return [...settle(fresh, positions), ...settled.map((each) => () => each(positions))];
    } catch (error) {
      await client.query('ROLLBACK').catch((cause: Error) => {
        broken = cause;
      });
      throw asStoreError(error, committing);
    } finally {
      client.release(broken);
    }
  }
}

/** Splits a group, under the log's lock, into what is new and what was answered before, conflicts or is over a limit. */
async function sortOut(client: pg.ClientBase, group: readonly Item[], meters: MeterGroup) {
  const decisions = group.flatMap(({ decision }) => (decision === null ? [] : [decision]));
  const byKey = new Map<string, StoredRow>();
  const ids = new Set<string>();
  if (decisions.length > 0) {
    const values = [decisions.map((d) => d.apiKey), decisions.map(keyOf), decisions.map((d) => d.id)];
    const { rows } = await client.query<StoredRow>({ ...FIND_STORED, values });
    for (const row of rows) {
      byKey.set(`${row.api_key} ${row.idempotency_key}`, row);
      ids.add(row.id);
    }
  }
  const fresh: Fresh[] = [];
  const settled: ((positions: readonly AuditPosition[]) => void)[] = [];
  const admit = (item: Item): boolean => {
    try {
      const metered = item.meter === null ? null : meters.count(item.meter);
      fresh.push({ item, bytes: metered?.repeated ? item.repeatedBytes : item.bytes, metered });
      return true;
    } catch (error) {
      settled.push(() => item.fail(error));
      return false;
    }
  };
  const first = new Map<string, number>();
  for (const item of group) {
    const { decision, meter } = item;
    if (decision === null) {
      admit(item);
      continue;
    }
    const key = `${decision.apiKey} ${keyOf(decision)}`;
    const stored = byKey.get(key);
    const sibling = first.get(key);
    const standing = () => (meter === null ? null : { ...meters.standing(meter), repeated: true });
    if (stored !== undefined) {
      const metered = standing();
      settled.push(() => attempt(item, () => replay(stored, decision.bodyHash, metered)));
    } else if (sibling !== undefined) {
      const metered = standing();
      settled.push((positions) =>
        attempt(item, () => ({ ...repeat(fresh[sibling].item, positions[sibling], decision.bodyHash), metered })),
      );
    } else if (ids.has(decision.id)) {
      settled.push(() => item.fail(new StoreError('ALREADY_EXISTS', 'A decision with this id exists already.')));
    } else if (admit(item)) {
      // Only now: a call that was refused leaves no answer for the next one with its key.
      ids.add(decision.id);
      first.set(key, fresh.length - 1);
    }
  }
  return { fresh, settled };
}

async function insertRows(client: pg.ClientBase, fresh: readonly Fresh[], positions: readonly AuditPosition[]) {
  const rows = fresh.flatMap(({ item: { decision } }, at) =>
    decision === null ? [] : [{ decision, index: positions[at].index }],
  );
  if (rows.length === 0) return;
  const column = <T>(pick: (decision: DecisionDraft) => T) => rows.map(({ decision }) => pick(decision));
  const personal = rows.flatMap(({ decision, index }) => (decision.personal ?? []).map((value) => ({ index, value })));
  await client.query({
    ...INSERT_DECISIONS,
    values: [
      column((d) => d.id),
      column((d) => d.apiKey),
      column(keyOf),
      column((d) => d.bodyHash),
      column((d) => d.reply),
      column((d) => d.modelHash),
      rows.map(({ index }) => index),
      personal.map(({ index }) => index),
      personal.map(({ value }) => value.name),
      personal.map(({ value }) => (value.subject === null ? null : Buffer.from(value.subject))),
      personal.map(({ value }) => Buffer.from(value.salt)),
      personal.map(({ value }) => Buffer.from(value.value)),
    ],
  });
}

function settle(fresh: readonly Fresh[], positions: readonly AuditPosition[]): (() => void)[] {
  return fresh.map(({ item, metered }, at) => () => {
    const { id, reply } = item.decision ?? { id: '', reply: '' };
    item.done({ ...positions[at], id, reply, replayed: false, metered });
  });
}

function attempt(item: Item, result: () => RecordedDecision): void {
  try {
    item.done(result());
  } catch (error) {
    item.fail(error);
  }
}

function replay(row: StoredRow, bodyHash: string, metered: Metered | null): RecordedDecision {
  if (row.body_hash !== bodyHash) throw conflict();
  const { id, reply, audit_index: index, bytes } = row;
  return { id, reply, index, leafHash: bytesToHex(leafHash(bytes)), replayed: true, metered };
}

function repeat(first: Item, position: AuditPosition, bodyHash: string): Omit<RecordedDecision, 'metered'> {
  // Safe: only items with a decision are remembered as the first of their key.
  const { id, reply, bodyHash: stored } = first.decision!;
  if (stored !== bodyHash) throw conflict();
  return { ...position, id, reply, replayed: true };
}

/** A request without a key cannot be repeated: its id, unique by itself, stands in. */
const keyOf = ({ idempotencyKey, id }: DecisionDraft): string => idempotencyKey ?? `id:${id}`;

function conflict(): StoreError {
  return new StoreError('IDEMPOTENCY_CONFLICT', 'The idempotency key was used before with another body.', {
    where: 'Idempotency-Key',
    fix: 'Use a new key for a new request, and the same body for a repeated one.',
  });
}
