/**
 * The cross-check of the privacy ledger with the audit log: the same budgets and the same reservations in both.
 *
 * The log is what an administrator cannot rewrite unnoticed, so a budget row that was raised, or a release that was
 * removed or made cheaper, differs from its entry. Run at start and by `audit fsck`.
 */
import type pg from 'pg';
import { PrivacyError } from '../errors.ts';
import { openBudget } from '../privacy/budget.ts';
import { tampered } from './auditHead.ts';
import { BUDGET_TYPE, RESERVATION_TYPE } from './ledger.ts';

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

interface LoggedEntry {
  index: number;
  outcome: unknown;
  details: Readonly<Record<string, unknown>>;
}

/** Entries of one type in the order of the log. The predicate is that of a partial index. */
async function* entriesOf(db: pg.ClientBase, type: string): AsyncGenerator<LoggedEntry> {
  const { rows } = await db.query<{ index: number; bytes: Buffer }>(
    `SELECT index::float8 AS index, bytes FROM audit_entries
     WHERE position('"type":"${type}"'::bytea IN bytes) > 0 ORDER BY index`,
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

async function compareBudgets(db: pg.ClientBase): Promise<void> {
  const logged = new Map<string, { epsilon: number; delta: number }>();
  for await (const { index, details } of entriesOf(db, BUDGET_TYPE)) {
    const { dataset, budget } = details;
    // Safe: any JSON value but null has members or none; both are checked below.
    const { epsilon, delta } = (budget ?? {}) as Record<string, unknown>;
    if (typeof dataset !== 'string' || typeof epsilon !== 'number' || typeof delta !== 'number') {
      throw tampered('the entry of a data set names no budget', `index ${index}`);
    }
    logged.set(dataset, { epsilon, delta });
  }
  const { rows } = await db.query<{ name: string; epsilon: number; delta: number; mu: number }>(
    `SELECT d.name, b.epsilon, b.delta, b.mu_squared::float8 AS mu
     FROM budgets b JOIN datasets d ON d.id = b.dataset_id ORDER BY d.id`,
  );
  for (const { name, epsilon, delta, mu } of rows) {
    const where = `budget of data set ${name}`;
    const set = logged.get(name);
    if (set === undefined) throw mismatch(where, 'A budget is in the ledger and not in the audit log');
    if (set.epsilon !== epsilon || set.delta !== delta || !sameLoss(openBudget(epsilon, delta).muSquared, mu)) {
      throw mismatch(where, 'A budget is another in the ledger than in the audit log');
    }
    logged.delete(name);
  }
  for (const name of logged.keys()) {
    throw mismatch(`budget of data set ${name}`, 'A budget is in the audit log and not in the ledger');
  }
}

async function compareReleases(db: pg.ClientBase): Promise<void> {
  const logged = new Map<string, unknown>();
  for await (const { outcome, details } of entriesOf(db, RESERVATION_TYPE)) {
    if (outcome === 'reserved') logged.set(nameOf(details), details.muSquared);
  }
  const { rows } = await db.query<Record<'datasetId' | 'planId' | 'round' | 'attempt', unknown> & { mu: number }>(
    `SELECT dataset_id AS "datasetId", plan_id AS "planId", round, attempt, mu_squared::float8 AS mu
     FROM releases WHERE state <> 'refused'`,
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

// A column keeps 30 decimals, an entry a double.
const sameLoss = (logged: number, held: number): boolean => Math.abs(logged - held) <= 1e-12 * logged;

const nameOf = ({ datasetId, planId, round, attempt }: Readonly<Record<string, unknown>>): string =>
  `data set ${datasetId}, plan ${planId}, round ${round}, attempt ${attempt}`;

function mismatch(where: string, what: string): PrivacyError {
  return new PrivacyError('LEDGER_MISMATCH', `${what}: the database was changed or restored in part.`, {
    where,
    fix: 'Run `veilrisk audit fsck`, and restore a backup in which both agree; nothing is released until then.',
  });
}
