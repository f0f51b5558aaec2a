/**
 * The cross-check of the privacy ledger with the audit log: the same budgets and the same reservations in both.
 *
 * The log is what an administrator cannot rewrite unnoticed, so a budget row that was raised, or a release that was
 * removed or made cheaper, differs from its entry. Run at start, by `audit fsck`, and for one data set before each
 * reservation. Limit: entries are read as they are stored; that one of them was rewritten too is found by recomputing the
 * log (`audit fsck`, `audit verify`), not here.
 */
import type pg from 'pg';
import { PrivacyError } from '../errors.ts';
import { tampered } from '../journal/head.ts';
import { openBudget } from '../privacy/budget.ts';

/** The entry of a reservation: details as in `reservationEntry`. */
export const RESERVATION_TYPE = 'privacy.reserve';
/** The entry that sets the budget of a data set: details `dataset` (its name) and `budget` {epsilon, delta}. */
export const BUDGET_TYPE = 'dataset.create';

/**
 * @throws PrivacyError LEDGER_MISMATCH naming the first difference; AuditError AUDIT_LOG_TAMPERED for an entry that is
 *   no entry.
 */
export async function compareWithLog(pool: pg.Pool): Promise<void> {
  const client = await pool.connect();
  try {
    // One snapshot, so that what is committed meanwhile is in both or in neither.
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    await compareBudgets(client);
    await compareReleases(client);
  } finally {
    await client.query('ROLLBACK').catch(() => {});
    client.release();
  }
}

/**
 * The same for one data set, inside a transaction that holds its budget: nobody else reserves from it meanwhile.
 * @throws as compareWithLog.
 */
export async function compareDatasetWithLog(db: Queryable, datasetId: number): Promise<void> {
  await compareBudgets(db, datasetId);
  await compareReleases(db, datasetId);
}

type Queryable = Pick<pg.ClientBase, 'query'>;

interface LoggedEntry {
  index: number;
  outcome: unknown;
  details: Readonly<Record<string, unknown>>;
}

/**
 * Entries of one type in the order of the log. The predicate is that of a partial index.
 * @param holding bytes that every entry of interest holds; others may be left out.
 */
async function* entriesOf(db: Queryable, type: string, holding = ''): AsyncGenerator<LoggedEntry> {
  const { rows } = await db.query<{ index: number; bytes: Buffer }>(
    // Nothing beyond the signed size is an entry.
    `SELECT index::float8 AS index, bytes FROM audit_entries
     WHERE position('"type":"${type}"'::bytea IN bytes) > 0 AND position($1::bytea IN bytes) > 0
       AND index < (SELECT size FROM audit_head WHERE id = 1) ORDER BY index`,
    [Buffer.from(holding)],
  );
  for (const { index, bytes } of rows) {
    const entry = parse(bytes, index);
    // The predicate also finds a nested object of this spelling.
    if (entry.type !== type) continue;
    const { outcome, details } = entry;
    if (typeof details !== 'object' || details === null) throw tampered('an entry has no details', `index ${index}`);
    yield { index, outcome, details: { ...details } };
  }
}

function parse(bytes: Buffer, index: number): Record<string, unknown> {
  try {
    const entry: unknown = JSON.parse(bytes.toString('utf8'));
    if (typeof entry === 'object' && entry !== null) return { ...entry };
  } catch {}
  throw tampered('an entry is not a JSON object', `index ${index}`);
}

async function compareBudgets(db: Queryable, only: number | null = null): Promise<void> {
  const logged = new Map<string, { epsilon: number; delta: number; most: number }>();
  for await (const { index, details } of entriesOf(db, BUDGET_TYPE)) {
    const { dataset, budget } = details;
    // Safe: any JSON value but null has members or none; both are checked below.
    const { epsilon, delta } = (budget ?? {}) as Record<string, unknown>;
    if (typeof dataset !== 'string' || typeof epsilon !== 'number' || typeof delta !== 'number') {
      throw tampered('the entry of a data set names no budget', `index ${index}`);
    }
    const most = Math.max(openBudget(epsilon, delta).muSquared, logged.get(dataset)?.most ?? 0);
    logged.set(dataset, { epsilon, delta, most });
  }
  const { rows } = await db.query<{ name: string; epsilon: number; delta: number; mu: number; spent: number }>(
    `SELECT d.name, b.epsilon, b.delta, b.mu_squared::float8 AS mu, COALESCE((SELECT sum(r.mu_squared) FROM releases r
       WHERE r.dataset_id = d.id AND r.state <> 'refused'), 0)::float8 AS spent
     FROM budgets b JOIN datasets d ON d.id = b.dataset_id WHERE $1::int IS NULL OR d.id = $1 ORDER BY d.id`,
    [only],
  );
  for (const { name, epsilon, delta, mu, spent } of rows) {
    const where = `budget of data set ${name}`;
    const set = logged.get(name);
    if (set === undefined) throw mismatch(where, 'A budget is in the ledger and not in the audit log');
    if (set.epsilon !== epsilon || set.delta !== delta || !sameLoss(openBudget(epsilon, delta).muSquared, mu)) {
      throw mismatch(where, 'A budget is another in the ledger than in the audit log');
    }
    // A budget may have been lowered below what was spent before; it never was more than the most that was logged.
    if (spent > set.most && !sameLoss(set.most, spent)) throw mismatch(where, 'More was reserved than it ever allowed');
    logged.delete(name);
  }
  if (only !== null) return;
  for (const name of logged.keys()) {
    throw mismatch(`budget of data set ${name}`, 'A budget is in the audit log and not in the ledger');
  }
}

async function compareReleases(db: Queryable, only: number | null = null): Promise<void> {
  const logged = new Map<string, unknown>();
  const holding = only === null ? '' : `"datasetId":${only},`;
  for await (const { outcome, details } of entriesOf(db, RESERVATION_TYPE, holding)) {
    if (outcome !== 'reserved' || (only !== null && details.datasetId !== only)) continue;
    const name = nameOf(details);
    // Two entries for one row: the first row was removed before the second was written.
    if (logged.has(name)) throw mismatch(name, 'A release is twice in the audit log and cannot be so in the ledger');
    logged.set(name, details.muSquared);
  }
  const { rows } = await db.query<Record<'datasetId' | 'planId' | 'round' | 'attempt', unknown> & { mu: number }>(
    `SELECT dataset_id AS "datasetId", plan_id AS "planId", round, attempt, mu_squared::float8 AS mu
     FROM releases WHERE state <> 'refused' AND ($1::int IS NULL OR dataset_id = $1)`,
    [only],
  );
  for (const row of rows) {
    const name = nameOf(row);
    const paid = logged.get(name);
    if (paid === undefined) throw mismatch(name, 'A release is in the ledger and not in the audit log');
    if (typeof paid !== 'number' || !sameLoss(paid, row.mu)) {
      throw mismatch(name, 'A release has another loss in the ledger than in the audit log');
    }
    logged.delete(name);
  }
  for (const name of logged.keys()) throw mismatch(name, 'A release is in the audit log and not in the ledger');
}

// A column keeps 30 decimals, rounded, an entry a double.
const sameLoss = (logged: number, held: number): boolean => Math.abs(logged - held) <= 1e-12 * logged + 2e-30;

const nameOf = ({ datasetId, planId, round, attempt }: Readonly<Record<string, unknown>>): string =>
  `data set ${datasetId}, plan ${planId}, round ${round}, attempt ${attempt}`;

function mismatch(where: string, what: string): PrivacyError {
  return new PrivacyError('LEDGER_MISMATCH', `${what}: the database was changed or restored in part.`, {
    where,
    fix: 'Run `veilrisk audit fsck`, and restore a backup in which both agree; nothing is released until then.',
  });
}
