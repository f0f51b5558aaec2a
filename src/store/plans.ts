/** Training plans this node was asked to join, and the identity the database belongs to. */
import { StoreError } from '../errors.ts';
import type { Plan } from './generated/client.ts';
import { asBytes, type Db, fromJsonBytes, jsonBytes, type Session } from './session.ts';

export type PlanState = 'offered' | 'accepted' | 'refused' | 'completed' | 'aborted';

export interface PlanRow {
  id: string;
  /** Hex hash of the plan. */
  hash: string;
  /** JSON of the plan, as stored. */
  plan: unknown;
  /** The operator's signed proposal as received. */
  proposal: Uint8Array | null;
  datasetId: number | null;
  state: PlanState;
  reason: string | null;
  createdAt: Date;
  updatedAt: Date;
}

export type NewPlan = Pick<PlanRow, 'id' | 'hash' | 'plan' | 'datasetId'> & {
  proposal?: Uint8Array | null;
  state: 'offered' | 'accepted' | 'refused';
  reason?: string | null;
};

export interface IdentityRow {
  name: string;
  /** Raw Ed25519 public key, base64. */
  publicKey: string;
  /** Verifier key of the audit log. */
  logVerifierKey: string;
}

export function readPlans(db: Db) {
  return {
    async find(id: string): Promise<PlanRow | null> {
      const row = await db.plan.findUnique({ where: { id } });
      return row === null ? null : toPlan(row);
    },
    /** Newest first. */
    async list(): Promise<PlanRow[]> {
      return (await db.plan.findMany({ orderBy: [{ createdAt: 'desc' }, { id: 'asc' }] })).map(toPlan);
    },
  };
}

export function writePlans({ db }: Session) {
  return {
    ...readPlans(db),
    /** @throws StoreError ALREADY_EXISTS when the id was answered before. */
    async insert({ plan, proposal, reason, ...rest }: NewPlan): Promise<PlanRow> {
      const signed = proposal == null ? null : asBytes(proposal);
      const data = { ...rest, planJson: jsonBytes(plan), proposal: signed, reason: reason ?? null };
      return toPlan(await db.plan.create({ data }));
    },
    /** Ends an accepted plan, or one that still waits for a decision; false when it is neither. */
    async end(id: string, state: 'completed' | 'aborted', reason: string | null = null): Promise<boolean> {
      const open = { in: state === 'aborted' ? ['accepted', 'offered'] : ['accepted'] };
      const { count } = await db.plan.updateMany({ where: { id, state: open }, data: { state, reason } });
      return count === 1;
    },
    /** Decides on a plan that waits for a person; false when it does not (any more). */
    async decide(id: string, state: 'accepted' | 'refused', reason: string | null = null): Promise<boolean> {
      const { count } = await db.plan.updateMany({ where: { id, state: 'offered' }, data: { state, reason } });
      return count === 1;
    },
  };
}

export function writeIdentity({ db }: Session) {
  return {
    /**
     * Writes whose database this is, the first time; true then.
     * @throws StoreError DATABASE_IN_USE when it belongs to another node.
     */
    async claim(identity: IdentityRow): Promise<boolean> {
      const found = await db.nodeIdentity.findUnique({ where: { id: 1 } });
      if (found === null) {
        await db.nodeIdentity.create({ data: { id: 1, ...identity } });
        return true;
      }
      const same = found.publicKey === identity.publicKey && found.logVerifierKey === identity.logVerifierKey;
      if (same && found.name === identity.name) return false;
      throw new StoreError(
        'DATABASE_IN_USE',
        `The database belongs to the node ${found.name}, or to other keys of it.`,
        {
          where: 'node identity',
          fix: 'Use the data directory this database was made with, or an empty database.',
        },
      );
    },
  };
}

export type PlanReader = ReturnType<typeof readPlans>;
export type PlanWriter = ReturnType<typeof writePlans>;
export type IdentityWriter = ReturnType<typeof writeIdentity>;

function toPlan({ planJson, ...row }: Plan): PlanRow {
  // Safe: a CHECK constraint holds the column to these five.
  return { ...row, plan: fromJsonBytes(planJson), state: row.state as PlanState };
}
