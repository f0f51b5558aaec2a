/**
 * Models: at most one champion, the others retired, or kept where the node does not score with their family. A unique index
 * holds that even against a second process.
 */
import type { Model } from './generated/client.ts';
import { asBytes, type Db, fromJsonBytes, jsonBytes, type Session } from './session.ts';

export interface ModelRow {
  /** Hex hash of the model; check it against `model` before use. */
  hash: string;
  contractHash: string;
  /** JSON of the contract, as stored. */
  contract: unknown;
  /** JSON of the model, as stored. */
  model: unknown;
  planId: string | null;
  /** The aggregator's signature and what it covers, as received. */
  evidence: Uint8Array | null;
  status: 'champion' | 'retired' | 'kept';
  adoptedAt: Date;
  retiredAt: Date | null;
}

export type NewModel = Omit<ModelRow, 'status' | 'retiredAt'>;

export function readModels(db: Db) {
  return {
    async find(hash: string): Promise<ModelRow | null> {
      const row = await db.model.findUnique({ where: { hash } });
      return row === null ? null : toModel(row);
    },
    async champion(): Promise<ModelRow | null> {
      const row = await db.model.findFirst({ where: { status: 'champion' } });
      return row === null ? null : toModel(row);
    },
    /** The champion first, then kept and retired ones, last adopted first. */
    async list(): Promise<ModelRow[]> {
      return (await db.model.findMany({ orderBy: [{ status: 'asc' }, { adoptedAt: 'desc' }] })).map(toModel);
    },
  };
}

export function writeModels({ db, client }: Session) {
  return {
    ...readModels(db),
    /**
     * Makes `model` the champion, whether it is new or was retired, and retires the one before.
     * Returns the hash of the champion before: the same hash means that nothing was changed.
     */
    async makeChampion(model: NewModel): Promise<{ previous: string | null }> {
      // Two adoptions at once take turns; the table is tiny and read without this lock.
      await client.query('LOCK TABLE models IN SHARE ROW EXCLUSIVE MODE');
      const before = await db.model.findFirst({ where: { status: 'champion' }, select: { hash: true } });
      if (before?.hash === model.hash) return { previous: before.hash };
      const { contract, model: json, evidence, hash, adoptedAt, ...rest } = model;
      await db.model.updateMany({ where: { status: 'champion' }, data: { status: 'retired', retiredAt: adoptedAt } });
      await db.model.upsert({
        where: { hash },
        create: {
          ...{ ...rest, hash, adoptedAt, status: 'champion' },
          contractJson: jsonBytes(contract),
          modelJson: jsonBytes(json),
          evidence: evidence === null ? null : asBytes(evidence),
        },
        update: { status: 'champion', adoptedAt, retiredAt: null },
      });
      return { previous: before?.hash ?? null };
    },
    /** Stores a model without making it champion. Returns whether it is new. */
    async keep(model: NewModel): Promise<{ added: boolean }> {
      await client.query('LOCK TABLE models IN SHARE ROW EXCLUSIVE MODE');
      if ((await db.model.findUnique({ where: { hash: model.hash }, select: { hash: true } })) !== null) {
        return { added: false };
      }
      const { contract, model: json, evidence, ...rest } = model;
      await db.model.create({
        data: {
          ...{ ...rest, status: 'kept' },
          contractJson: jsonBytes(contract),
          modelJson: jsonBytes(json),
          evidence: evidence === null ? null : asBytes(evidence),
        },
      });
      return { added: true };
    },
  };
}

export type ModelReader = ReturnType<typeof readModels>;
export type ModelWriter = ReturnType<typeof writeModels>;

function toModel({ contractJson, modelJson, ...row }: Model): ModelRow {
  return {
    ...row,
    contract: fromJsonBytes(contractJson),
    model: fromJsonBytes(modelJson),
    // Safe: a CHECK constraint holds the column to these three.
    status: row.status as ModelRow['status'],
  };
}
