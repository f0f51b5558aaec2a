/**
 * The aggregator's database: connection, migrations, whose it is, and the one way to change a plan.
 *
 * A plan is changed only inside `withPlan`, which holds that plan's row lock for one transaction, so each step of a plan
 * happens exactly once whichever process or connection tries it. Isolation is READ COMMITTED under that lock.
 */

import { join } from 'node:path';
import { PrismaPg } from '@prisma/adapter-pg';
import { applyMigrations } from '../../../src/database/migrations.ts';
import { FederationError } from '../../../src/errors.ts';
import { type Plan, Prisma, PrismaClient } from './generated/client.ts';

export type { Plan } from './generated/client.ts';
/** A plan without the operator's envelope, which only offers need. */
export type PlanRow = Omit<Plan, 'proposal'>;
export type Transaction = Prisma.TransactionClient;
export type Database = PrismaClient;

const MIGRATIONS = join(import.meta.dirname, '../../../prisma/migrations/aggregator');
const POOL = 10;
/** A closing round sums up to 100 histograms and solves for the next weights inside its transaction. */
const TRANSACTION = { maxWait: 30_000, timeout: 60_000 };

/** Applies pending migrations and opens the client. Throws StoreError, or ROSTER_INVALID for another aggregator's database. */
export async function openDatabase(url: string, identityKey: string): Promise<Database> {
  await applyMigrations(url, MIGRATIONS);
  const database = new PrismaClient({ adapter: new PrismaPg({ connectionString: url, max: POOL }) });
  await database.identity.createMany({ data: { id: 1, publicKey: identityKey }, skipDuplicates: true });
  const owner = await database.identity.findUniqueOrThrow({ where: { id: 1 } });
  if (owner.publicKey !== identityKey) {
    await database.$disconnect();
    throw new FederationError('ROSTER_INVALID', 'The database belongs to an aggregator with another identity key.', {
      where: 'database',
      fix: 'Use the data directory this database was made with, or an empty database.',
    });
  }
  return database;
}

/** One transaction holding the plan's lock. `work` sees the plan as it is under the lock. Throws PLAN_UNKNOWN. */
export async function withPlan<T>(
  database: Database,
  planId: string,
  work: (tx: Transaction, plan: PlanRow) => Promise<T>,
): Promise<T> {
  checkPlanId(planId);
  return database.$transaction(async (tx) => {
    await tx.$queryRaw(Prisma.sql`SELECT id FROM plans WHERE id = ${planId} FOR UPDATE`);
    const plan = await tx.plan.findUnique({ where: { id: planId }, omit: { proposal: true } });
    if (plan === null) throw planUnknown();
    return work(tx, plan);
  }, TRANSACTION);
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
