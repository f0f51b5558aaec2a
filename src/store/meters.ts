/**
 * Meters: how many distinct vectors a caller had scored under each model, and the limits on that.
 *
 * A meter is read, decided on and raised inside the group commit of decisions.ts, under the log's lock, which every
 * process that shares the database takes in turn: so no two requests see the same vector left, and a count commits with
 * the audit entry of the answer it stands for, or not at all. A group costs one statement to read and one to write,
 * however many requests it holds, and a third for a meter's first vector. Ids of meters are not taken from the sequence
 * by an upsert, which would use one up a group and end a SERIAL within weeks.
 * Limit: a row for every counted vector, about 120 bytes with its index, as long as the model is kept.
 */
import type pg from 'pg';
import { mapped } from '../database/failures.ts';
import { RequestError } from '../errors.ts';
import type { Db, Session } from './session.ts';

/** Whose meter: what a caller may still have scored under a model. */
export interface MeterOwner {
  /** Name of the API keys that ask. */
  owner: string;
  modelHash: string;
  /** The limit of callers that have none of their own. */
  generalLimit: number;
}

/** What one answer would count. */
export interface MeterDraft extends MeterOwner {
  /** 16 bytes that name the vector, or the request that holds several; the same is counted once. */
  tag: Uint8Array;
  /** At least 1. */
  vectors: number;
  /** How often the same tag is answered; null without bound, and then repetitions are not written down. */
  mostAnswers: number | null;
}

/** Where a meter stands. */
export interface Allowance {
  /** Distinct vectors so far. */
  counted: number;
  limit: number;
}

export interface Metered extends Allowance {
  /** The tag was counted before, so this answer counted nothing. */
  repeated: boolean;
}

export interface MeterRow {
  owner: string;
  modelHash: string;
  /** Of the model. */
  status: 'champion' | 'retired' | 'kept';
  /** Distinct vectors so far. */
  vectors: number;
}

export interface VectorLimitRow {
  owner: string;
  vectors: number;
}

type Queryable = Pick<pg.ClientBase, 'query'>;

interface Meter {
  id: number | null;
  owner: string;
  modelHash: string;
  counted: number;
  /** Of `counted`, what this group adds. */
  added: number;
  /** The caller's own limit; null when it has none. */
  limit: number | null;
  tags: Map<string, Tag>;
}

interface Tag {
  bytes: Buffer;
  vectors: number;
  answers: number;
  /** Answers of this group that are written. */
  added: number;
}

interface ReadRow {
  at: number;
  id: number | null;
  vectors: number | null;
  own_limit: number | null;
  answers: number | null;
}

// One look-up by primary key a row, whatever the planner believes: joins would be estimated for a table without
// statistics, and a plan that reads a whole meter for each vector is kept until the next ANALYZE.
const READ = `SELECT q.at::int AS at, m.id, m.vectors::float8 AS vectors,
    (SELECT l.vectors::float8 FROM vector_limits l WHERE l.owner = q.owner) AS own_limit,
    (SELECT v.answers FROM metered_vectors v WHERE v.meter_id = m.id AND v.tag = q.tag) AS answers
  FROM unnest($1::text[], $2::text[], $3::bytea[]) WITH ORDINALITY AS q(owner, model_hash, tag, at)
  LEFT JOIN LATERAL (SELECT id, vectors FROM meters
    WHERE owner = q.owner AND model_hash = q.model_hash OFFSET 0) m ON true`;
const CREATE = {
  name: 'veilrisk-create-meters',
  text: `INSERT INTO meters (owner, model_hash) SELECT * FROM unnest($1::text[], $2::text[])
    RETURNING id, owner, model_hash`,
};
const RAISE = {
  name: 'veilrisk-raise-meters',
  text: `WITH raised AS (
      UPDATE meters m SET vectors = m.vectors + d.added, updated_at = now()
      FROM unnest($1::int[], $2::bigint[]) AS d(id, added) WHERE m.id = d.id)
    INSERT INTO metered_vectors AS v (meter_id, tag, vectors, answers)
    SELECT * FROM unnest($3::int[], $4::bytea[], $5::int[], $6::int[])
    ON CONFLICT (meter_id, tag) DO UPDATE SET answers = v.answers + excluded.answers`,
};

/** The meters that the requests of one group concern, and what the group adds to them. */
export class MeterGroup {
  readonly #meters = new Map<string, Meter>();

  /**
   * Reads what the decisions need; under the log's lock when they are to hold.
   * @param name of the prepared statement; without one it is planned each time
   */
  static async read(
    db: Queryable,
    drafts: readonly Pick<MeterDraft, 'owner' | 'modelHash' | 'tag'>[],
    name?: 'veilrisk-read-meters',
  ): Promise<MeterGroup> {
    const group = new MeterGroup();
    if (drafts.length === 0) return group;
    const values = [
      drafts.map(({ owner }) => owner),
      drafts.map(({ modelHash }) => modelHash),
      drafts.map(({ tag }) => asBuffer(tag)),
    ];
    const { rows } = await db.query<ReadRow>({ text: READ, values, ...(name && { name }) });
    for (const { at, id, vectors, own_limit: limit, answers } of rows) {
      const { owner, modelHash, tag } = drafts[at - 1];
      const key = keyOf({ owner, modelHash });
      let meter = group.#meters.get(key);
      if (meter === undefined) {
        meter = { id, owner, modelHash, counted: vectors ?? 0, added: 0, limit, tags: new Map() };
        group.#meters.set(key, meter);
      }
      if (answers === null) continue;
      const bytes = asBuffer(tag);
      meter.tags.set(bytes.toString('hex'), { bytes, vectors: 1, answers, added: 0 });
    }
    return group;
  }

  /** Where the meter of a draft that was read stands now, with what the group has added so far. */
  standing(owner: MeterOwner): Allowance {
    const { counted, limit } = this.#meterOf(owner);
    return { counted, limit: limit ?? owner.generalLimit };
  }

  /**
   * Counts one answer; to be called in the order of the answers.
   * @throws RequestError VECTOR_LIMIT, REQUEST_REPLAYED, and then nothing is counted.
   */
  count(draft: MeterDraft): Metered {
    const meter = this.#meterOf(draft);
    const limit = meter.limit ?? draft.generalLimit;
    const bytes = asBuffer(draft.tag);
    const hex = bytes.toString('hex');
    const known = meter.tags.get(hex);
    if (known === undefined) {
      if (meter.counted + draft.vectors > limit) throw overLimit(draft.vectors, meter.counted, limit);
      meter.counted += draft.vectors;
      meter.added += draft.vectors;
      meter.tags.set(hex, { bytes, vectors: draft.vectors, answers: 1, added: 1 });
    } else if (draft.mostAnswers !== null) {
      if (known.answers >= draft.mostAnswers) throw replayed(draft.mostAnswers);
      known.answers++;
      known.added++;
    }
    return { counted: meter.counted, limit, repeated: known !== undefined };
  }

  /** Writes what was counted, in the transaction that answers. */
  async write(db: Queryable): Promise<void> {
    const changed = [...this.#meters.values()].flatMap((meter) => {
      const tags = [...meter.tags.values()].filter(({ added }) => added > 0);
      return tags.length === 0 ? [] : [{ meter, tags }];
    });
    if (changed.length === 0) return;
    const first = changed.filter(({ meter }) => meter.id === null).map(({ meter }) => meter);
    if (first.length > 0) {
      const values = [first.map(({ owner }) => owner), first.map(({ modelHash }) => modelHash)];
      const { rows } = await db.query<{ id: number; owner: string; model_hash: string }>({ ...CREATE, values });
      for (const { id, owner, model_hash: modelHash } of rows) this.#meterOf({ owner, modelHash }).id = id;
    }
    const tags = changed.flatMap(({ meter, tags }) => tags.map((tag) => ({ id: meter.id, tag })));
    await db.query({
      ...RAISE,
      values: [
        changed.map(({ meter }) => meter.id),
        changed.map(({ meter }) => meter.added),
        tags.map(({ id }) => id),
        tags.map(({ tag }) => tag.bytes),
        tags.map(({ tag }) => tag.vectors),
        tags.map(({ tag }) => tag.added),
      ],
    });
  }

  #meterOf(key: Pick<MeterOwner, 'owner' | 'modelHash'>): Meter {
    // Safe: `read` puts a meter in for every draft, whether it has a row or not.
    return this.#meters.get(keyOf(key))!;
  }
}

export function readMeters(pool: pg.Pool) {
  return {
    /**
     * What `count` would say now, outside any lock: refuses early what cannot be answered, and promises nothing.
     * @throws RequestError VECTOR_LIMIT, REQUEST_REPLAYED
     */
    async check(draft: MeterDraft): Promise<Metered> {
      return (await mapped(MeterGroup.read(pool, [draft]))).count(draft);
    },
    async standing(owner: MeterOwner): Promise<Allowance> {
      return (await mapped(MeterGroup.read(pool, [{ ...owner, tag: NO_TAG }]))).standing(owner);
    },
    /** Of one owner or of all: by owner, the champion's meter first, then that of the model adopted last. */
    async list(owner: string | null): Promise<MeterRow[]> {
      const { rows } = await mapped(
        pool.query<MeterRow>(
          `SELECT m.owner, m.model_hash AS "modelHash", coalesce(o.status, 'retired') AS status,
             m.vectors::float8 AS vectors
           FROM meters m LEFT JOIN models o ON o.hash = m.model_hash
           WHERE $1::text IS NULL OR m.owner = $1
           ORDER BY m.owner, o.status = 'champion' DESC NULLS LAST, o.adopted_at DESC NULLS LAST, m.id DESC`,
          [owner],
        ),
      );
      return rows;
    },
  };
}

export function readVectorLimits(db: Db) {
  return {
    async find(owner: string): Promise<number | null> {
      const row = await db.vectorLimit.findUnique({ where: { owner } });
      return row === null ? null : Number(row.vectors);
    },
    /** By owner. */
    async list(): Promise<VectorLimitRow[]> {
      const rows = await db.vectorLimit.findMany({ orderBy: { owner: 'asc' } });
      return rows.map(({ owner, vectors }) => ({ owner, vectors: Number(vectors) }));
    },
  };
}

export function writeVectorLimits({ db, client }: Session) {
  const reader = readVectorLimits(db);
  return {
    ...reader,
    /** Returns the limit before. @param vectors null takes the caller's own limit away */
    async set(owner: string, vectors: number | null): Promise<{ previous: number | null }> {
      // Two changes at once take turns, so that each tells the one before it; the group commit reads without this lock.
      await client.query('LOCK TABLE vector_limits IN SHARE ROW EXCLUSIVE MODE');
      const previous = await reader.find(owner);
      if (previous === vectors) return { previous };
      if (vectors === null) {
        await db.vectorLimit.deleteMany({ where: { owner } });
        return { previous };
      }
      const change = { vectors: BigInt(vectors), updatedAt: new Date() };
      await db.vectorLimit.upsert({ where: { owner }, create: { owner, ...change }, update: change });
      return { previous };
    },
  };
}

export type MeterReader = ReturnType<typeof readMeters>;
export type VectorLimitReader = ReturnType<typeof readVectorLimits>;
export type VectorLimitWriter = ReturnType<typeof writeVectorLimits>;

const NO_TAG = new Uint8Array(0);

/** A model hash has a fixed length, so the pair is named without doubt. */
const keyOf = ({ owner, modelHash }: Pick<MeterOwner, 'owner' | 'modelHash'>): string => `${modelHash} ${owner}`;

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

function overLimit(vectors: number, counted: number, limit: number): RequestError {
  const left = Math.max(0, limit - counted);
  const asked = vectors === 1 ? 'one transaction' : `${vectors} transactions`;
  return new RequestError(
    'VECTOR_LIMIT',
    `The request holds ${asked} and ${left === 0 ? 'none is' : left === 1 ? '1 is' : `${left} are`} left of the ${limit} different ` +
      'transactions that this caller may have scored under this model. Nothing was scored or counted.',
    {
      where: 'vector limit',
      fix:
        left === 0
          ? 'Ask the operator of the node for a higher limit, or wait for the next model.'
          : `Send at most ${left}, or ask the operator of the node for a higher limit; see GET /v1/usage.`,
    },
  );
}

function replayed(most: number): RequestError {
  return new RequestError('REQUEST_REPLAYED', `This encrypted request was answered ${most} times already.`, {
    where: 'request frame',
    fix: 'Keep the reply. To have the transactions scored again, encrypt them again; they then count again.',
  });
}
