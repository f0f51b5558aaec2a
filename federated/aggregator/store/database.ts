/**
 * The aggregator's database: connections, migrations, whose it is, and the one way to change a plan.
 *
 * A plan is changed only in a transaction whose first statement is `takeStep`: it takes the plan's row lock and verifies
 * that the caller still holds the lease and has seen the plan's newest revision. So each step of a plan happens exactly
 * once, whichever process tries it, and however late. Isolation is READ COMMITTED under that lock.
 * Rounds run on `pg`; Prisma answers what people ask now and then.
 */

import { join } from 'node:path';
import { PrismaPg } from '@prisma/adapter-pg';
import type pg from 'pg';
import { openPool } from '../../../src/database/connection.ts';
import { applyMigrations } from '../../../src/database/migrations.ts';
import { FederationError } from '../../../src/errors.ts';
import { PrismaClient } from './generated/client.ts';

const MIGRATIONS = join(import.meta.dirname, '../../../prisma/migrations/aggregator');
const POOL = 10;
const RARE_POOL = 3;
/** Statements are short; one without an answer is of a connection that is gone. What it did is read again. */
export const ANSWER_WITHIN_MS = 10_000;

/** A pg client inside a transaction. */
export type Transaction = Pick<pg.ClientBase, 'query'>;

export interface Database {
  readonly pool: pg.Pool;
  readonly prisma: PrismaClient;
  readonly url: string;
  close(): Promise<void>;
}

/** Applies pending migrations and connects. Throws StoreError, or ROSTER_INVALID for another aggregator's database. */
export async function openDatabase(url: string, identityKey: string): Promise<Database> {
  await applyMigrations(url, MIGRATIONS);
  const pool = await openPool(url, POOL, ANSWER_WITHIN_MS);
  const prisma = new PrismaClient({
    adapter: new PrismaPg({ connectionString: url, max: RARE_POOL, query_timeout: ANSWER_WITHIN_MS }),
  });
  const close = async () => {
    await Promise.all([pool.end(), prisma.$disconnect()]);
  };
  await prisma.identity.createMany({ data: { id: 1, publicKey: identityKey }, skipDuplicates: true });
  const owner = await prisma.identity.findUniqueOrThrow({ where: { id: 1 } });
  if (owner.publicKey !== identityKey) {
    await close();
    throw new FederationError('ROSTER_INVALID', 'The database belongs to an aggregator with another identity key.', {
      where: 'database',
      fix: 'Use the data directory this database was made with, or an empty database.',
    });
  }
  return { pool, prisma, url, close };
}

/** Runs `work` in a transaction; its failure undoes everything. */
export async function transaction<T>(pool: pg.Pool, work: (tx: Transaction) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  let broken: Error | undefined;
  try {
    await client.query('BEGIN');
    const result = await work(client);
    await client.query('COMMIT');
    return result;
  } catch (error) {
    await client.query('ROLLBACK').catch((failure: Error) => {
      broken = failure;
    });
    throw error;
  } finally {
    // A connection that cannot even roll back is not given to anybody else.
    client.release(broken);
  }
}

/** Who may take a step: the lease's token and the revision the decision was made on. */
export interface Fence {
  readonly planId: string;
  readonly token: number;
  readonly revision: number;
}

/** What a step does to the plan's own row. */
export interface PlanStep {
  state?: string;
  round?: number;
  code?: string;
  reason?: string;
  ended?: true;
}

/**
 * The first statement of every step: locks the plan's row, verifies the fence, and counts the step.
 * @returns false when the lease went to another process or the plan has changed; then nothing was done.
 */
export async function takeStep(tx: Transaction, fence: Fence, step: PlanStep): Promise<boolean> {
  const { rowCount } = await tx.query({
    name: 'take-step',
    text: `UPDATE plans SET revision = revision + 1, state = coalesce($4, state), round = coalesce($5, round),
             code = coalesce($6, code), reason = coalesce($7, reason),
             ended_at = CASE WHEN $8 THEN clock_timestamp() ELSE ended_at END
           WHERE id = $1 AND lease_token = $2 AND revision = $3 AND ended_at IS NULL`,
    values: [
      ...[fence.planId, fence.token, fence.revision],
      ...[step.state ?? null, step.round ?? null, step.code ?? null, step.reason ?? null, step.ended ?? false],
    ],
  });
  return rowCount === 1;
}

/**
 * A step that only moves the open round to its next phase, as one statement with a commit of its own: two of them lie in
 * the way of every masked round. @returns false as `takeStep` does.
 */
export async function takePhase(
  pool: pg.Pool,
  fence: Fence,
  to: { round: number; phase: string; survivors: readonly string[]; notice: { channel: string; payload: string } },
): Promise<boolean> {
  const { rows } = await pool.query<{ moved: number }>({
    name: 'take-phase',
    text: `WITH step AS (
             UPDATE plans SET revision = revision + 1
             WHERE id = $1 AND lease_token = $2 AND revision = $3 AND ended_at IS NULL RETURNING id),
           moved AS (
             UPDATE rounds SET phase = $5, survivors = $6 FROM step WHERE plan_id = step.id AND number = $4
             RETURNING number)
           SELECT (SELECT count(*)::int FROM moved) AS moved, pg_notify($7, $8)`,
    values: [
      ...[fence.planId, fence.token, fence.revision, to.round, to.phase, to.survivors],
      ...[to.notice.channel, to.notice.payload],
    ],
  });
  return rows[0].moved === 1;
}

/** Names no plan can have are not looked up. Throws PLAN_UNKNOWN. */
export function checkPlanId(planId: string): void {
  if (!/^[\x21-\x7e]{1,200}$/.test(planId)) throw planUnknown();
}

export function planUnknown(): FederationError {
  return new FederationError('PLAN_UNKNOWN', 'There is no plan of that name.', {
    where: 'plan_id',
    fix: 'Check the name, and that it was proposed to this aggregator.',
  });
}
