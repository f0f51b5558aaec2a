/**
 * The privacy ledger: reserve before noise is drawn, commit before bytes leave, never return what was reserved.
 *
 * The budget's row is locked for every reservation, and the sum is compared inside the same statement that inserts, so
 * two processes cannot overspend together. Losses are decimals, rounded up, and budgets rounded down: their sum is exact.
 * Whoever composes these functions appends the audit entry (`reservationEntry`) in the same transaction. Both are compared
 * at start (`ledgerAgreesWithLog`) and, for the data set in question, under the lock of every reservation (crossCheck.ts):
 * a row that was changed while the node runs buys nothing.
 */
import { createHash } from 'node:crypto';
import type { EntryDraft, Json } from '../audit/entry.ts';
import { PrivacyError, StoreError } from '../errors.ts';
import { compareDatasetWithLog, RESERVATION_TYPE } from './crossCheck.ts';
import type { Prisma, Release } from './generated/client.ts';
import { asBytes, type Db, type Session } from './session.ts';

export { BUDGET_TYPE, RESERVATION_TYPE } from './crossCheck.ts';

export type ReleaseState = 'reserved' | 'committed' | 'lost' | 'refused';

export interface ReleaseRow {
  id: string;
  datasetId: number;
  planId: string;
  /** 0 for the bin counts. */
  round: number;
  /** From 1. */
  attempt: number;
  muSquared: number;
  state: ReleaseState;
  statement: unknown;
  /** The bytes that left the node, once committed. */
  payload: Uint8Array | null;
  payloadSha256: string | null;
  reservedAt: Date;
  settledAt: Date | null;
}

export interface BudgetRow {
  epsilon: number;
  delta: number;
  muSquared: number;
}

/** Sums of mu squared by state, and what is left. */
export interface LedgerTotals {
  budget: BudgetRow;
  reserved: number;
  committed: number;
  lost: number;
  /** reserved + committed + lost: all of it counts. */
  spent: number;
  /** Refused attempts; they cost nothing. */
  refusals: number;
}

export interface Reservation {
  datasetId: number;
  planId: string;
  round: number;
  /** Loss of the release as mu squared, rounded up. */
  muSquared: number;
  /** What is promised about it, JSON. */
  statement: { readonly [name: string]: Json };
}

export type ReserveResult =
  | { reserved: true; release: ReleaseRow }
  | { reserved: false; release: ReleaseRow; totals: LedgerTotals };

export function readLedger(db: Db) {
  async function totals(datasetId: number): Promise<LedgerTotals | null> {
    const budget = await db.budget.findUnique({ where: { datasetId } });
    if (budget === null) return null;
    const sums = await db.release.groupBy({
      by: ['state'],
      where: { datasetId },
      _sum: { muSquared: true },
      _count: true,
    });
    const of = (state: ReleaseState) => sums.find((each) => each.state === state);
    const sum = (...states: ReleaseState[]) =>
      Number(states.map((state) => of(state)?._sum.muSquared ?? null).reduce(addDecimals, null) ?? 0);
    return {
      budget: { epsilon: budget.epsilon, delta: budget.delta, muSquared: Number(budget.muSquared) },
      reserved: sum('reserved'),
      committed: sum('committed'),
      lost: sum('lost'),
      spent: sum('reserved', 'committed', 'lost'),
      refusals: of('refused')?._count ?? 0,
    };
  }
  return {
    totals,
    /** Oldest first. */
    async releases(datasetId: number): Promise<ReleaseRow[]> {
      return (await db.release.findMany({ where: { datasetId }, orderBy: { id: 'asc' } })).map(toRelease);
    },
    /** The newest attempt at a release, or null. */
    async latest(datasetId: number, planId: string, round: number): Promise<ReleaseRow | null> {
      const where = { datasetId, planId, round };
      const row = await db.release.findFirst({ where, orderBy: { attempt: 'desc' } });
      return row === null ? null : toRelease(row);
    },
  };
}

export function writeLedger({ db, client }: Session) {
  const reader = readLedger(db);

  /** Holds the budget until the transaction ends. @throws StoreError NOT_FOUND when none was set. */
  async function lockBudget(datasetId: number): Promise<BudgetRow> {
    const { rows } = await client.query<{ epsilon: number; delta: number; mu: string }>(
      'SELECT epsilon, delta, mu_squared AS mu FROM budgets WHERE dataset_id = $1 FOR UPDATE',
      [datasetId],
    );
    if (rows.length === 0) {
      throw new StoreError('NOT_FOUND', 'The data set has no privacy budget.', {
        where: `data set ${datasetId}`,
        fix: 'Set one before anything is released.',
      });
    }
    return { epsilon: rows[0].epsilon, delta: rows[0].delta, muSquared: Number(rows[0].mu) };
  }

  async function byId(id: string): Promise<ReleaseRow> {
    return toRelease(await db.release.findUniqueOrThrow({ where: { id: BigInt(id) } }));
  }

  async function settle(id: string, data: Prisma.ReleaseUpdateManyMutationInput): Promise<ReleaseRow> {
    const { count } = await db.release.updateMany({ where: { id: BigInt(id), state: 'reserved' }, data });
    if (count !== 1) throw replayed(`release ${id}`, 'it is not reserved (any more)');
    return byId(id);
  }

  return {
    ...reader,
    lockBudget,
    /**
     * Sets the budget of a data set. The caller appends an entry of BUDGET_TYPE in the same transaction, and takes
     * `muSquared` from `openBudget`: the cross-check at start requires both.
     */
    async setBudget(datasetId: number, budget: BudgetRow): Promise<{ previous: BudgetRow | null }> {
      const before = await reader.totals(datasetId);
      const data = { epsilon: budget.epsilon, delta: budget.delta, muSquared: decimalBelow(budget.muSquared) };
      await db.budget.upsert({ where: { datasetId }, create: { datasetId, ...data }, update: data });
      return { previous: before?.budget ?? null };
    },
    /**
     * Records an attempt: reserved when it fits what is left of the budget, else refused (not an exception, so that the
     * refusal and its audit entry commit).
     * @throws PrivacyError RELEASE_REPLAYED when an earlier attempt is reserved or committed, LEDGER_MISMATCH when budget
     *   and releases of the data set are not those of the audit log; StoreError NOT_FOUND.
     */
    async reserve({ datasetId, planId, round, muSquared, statement }: Reservation): Promise<ReserveResult> {
      if (!(muSquared > 0) || !Number.isFinite(muSquared)) {
        throw new PrivacyError('PRIVACY_PARAMETER', 'The loss of a release must be positive.', { where: 'muSquared' });
      }
      await lockBudget(datasetId);
      await compareDatasetWithLog(client, datasetId);
      const earlier = await reader.latest(datasetId, planId, round);
      if (earlier?.state === 'reserved' || earlier?.state === 'committed') {
        throw replayed(`plan ${planId}, round ${round}`, `attempt ${earlier.attempt} is ${earlier.state}`);
      }
      const { rows } = await client.query<{ id: string; state: ReleaseState }>(
        `INSERT INTO releases (dataset_id, plan_id, round, attempt, mu_squared, statement, state)
         SELECT $1, $2, $3, $4, $5::numeric, $6,
           CASE WHEN COALESCE((SELECT sum(mu_squared) FROM releases WHERE dataset_id = $1 AND state <> 'refused'), 0)
             + $5::numeric <= mu_squared THEN 'reserved' ELSE 'refused' END
         FROM budgets WHERE dataset_id = $1 RETURNING id, state`,
        [datasetId, planId, round, (earlier?.attempt ?? 0) + 1, decimalAbove(muSquared), JSON.stringify(statement)],
      );
      const release = await byId(rows[0].id);
      if (release.state === 'reserved') return { reserved: true, release };
      // Safe: the budget's row is locked, so it is there.
      return { reserved: false, release, totals: (await reader.totals(datasetId))! };
    },
    /** Stores the bytes that are about to leave. @throws PrivacyError RELEASE_REPLAYED unless it was reserved. */
    commit(id: string, payload: Uint8Array): Promise<ReleaseRow> {
      const payloadSha256 = createHash('sha256').update(payload).digest('hex');
      return settle(id, { state: 'committed', payload: asBytes(payload), payloadSha256, settledAt: new Date() });
    },
    /** Gives up a reservation whose process died; it stays spent. @throws PrivacyError RELEASE_REPLAYED. */
    markLost(id: string): Promise<ReleaseRow> {
      return settle(id, { state: 'lost', settledAt: new Date() });
    },
  };
}

export type LedgerReader = ReturnType<typeof readLedger>;
export type LedgerWriter = ReturnType<typeof writeLedger>;

/**
 * The audit entry of a reservation, appended in its transaction. The cross-check at start reads exactly these details.
 */
export function reservationEntry(release: ReleaseRow, actor: string): EntryDraft {
  const { datasetId, planId, round, attempt, muSquared } = release;
  return {
    type: RESERVATION_TYPE,
    actor,
    outcome: 'reserved',
    // Safe: the column is JSON.
    details: { datasetId, planId, round, attempt, muSquared, statement: release.statement as Json },
  };
}

const addDecimals = (sum: Prisma.Decimal | null, each: Prisma.Decimal | null) =>
  each === null ? sum : sum === null ? each : sum.plus(each);

const DECIMALS = 30;
/** The longest that toFixed writes. */
const DIGITS = 100;
const UNIT = 10n ** BigInt(DIGITS - DECIMALS);

/** The least decimal of the column that is at least `value` > 0: what is charged is never less than the loss. */
export function decimalAbove(value: number): string {
  return decimalText((digitsOf(value) + (isWhole(value) ? 0n : 1n) + UNIT - 1n) / UNIT);
}

/** The greatest decimal of the column that is at most `value` >= 0, for a limit. */
export function decimalBelow(value: number): string {
  const digits = digitsOf(value) - (isWhole(value) ? 0n : 1n);
  return decimalText(digits < 0n ? 0n : digits / UNIT);
}

function digitsOf(value: number): bigint {
  // Beyond it toFixed writes an exponent; no loss comes near.
  if (!(value >= 0 && value < 1e21)) {
    throw new PrivacyError('PRIVACY_PARAMETER', 'A loss must be a number of at least 0.', { where: 'muSquared' });
  }
  return BigInt(value.toFixed(DIGITS).replace('.', ''));
}

/** Whether toFixed(DIGITS) is the double itself and not its nearest: k binary places have k decimal ones. */
const isWhole = (value: number): boolean => Number.isInteger(value * 2 ** DIGITS);

function decimalText(units: bigint): string {
  const digits = units.toString().padStart(DECIMALS + 1, '0');
  return `${digits.slice(0, -DECIMALS)}.${digits.slice(-DECIMALS)}`;
}

function toRelease(row: Release): ReleaseRow {
  return {
    ...row,
    id: row.id.toString(),
    muSquared: Number(row.muSquared),
    // Safe: a CHECK constraint holds the column to these four.
    state: row.state as ReleaseState,
  };
}

function replayed(where: string, why: string): PrivacyError {
  return new PrivacyError('RELEASE_REPLAYED', `The release was made or begun before: ${why}.`, {
    where,
    fix: 'Send the committed bytes again, or mark the reservation lost first.',
  });
}
