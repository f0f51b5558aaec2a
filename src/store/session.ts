/**
 * What one transaction works with: Prisma for ordinary rows, and the same connection as a plain `pg` client for what
 * Prisma is too slow for or cannot do (numbering audit entries, COPY, row locks).
 *
 * Prisma does not show the connection of its interactive transaction, so it is found by its backend process id in the
 * pool that both share. A transaction is given up at its limit, by this process and by the server. Limit: behind a connection pooler that renumbers backends this fails, with an error that says so.
 */
import { PrismaPg } from '@prisma/adapter-pg';
import canonicalize from 'canonicalize';
import type pg from 'pg';
import { asStoreError, expired, mapped } from '../database/failures.ts';
import { StoreError } from '../errors.ts';
import { type Prisma, PrismaClient } from './generated/client.ts';

/** Prisma, inside or outside a transaction. */
export type Db = Prisma.TransactionClient;

/** The connection of a transaction, as long as that lasts: afterwards its `query` throws. */
export type TransactionClient = Pick<pg.ClientBase, 'query'>;

export interface Session {
  db: Db;
  /** The connection of the same transaction. */
  client: TransactionClient;
}

export interface TransactionOptions {
  /** Longest duration of the whole transaction, ms; default one minute. An import asks for more. */
  timeoutMs?: number;
}

const WAIT_MS = 30_000;
const TIMEOUT_MS = 60_000;
// The limit is enforced here first, then by the server, which ends the session; Prisma's own limit, at which it gives
// the connection to others while `work` may still run, is never the first.
const SERVER_MARGIN_MS = 1_000;
const PRISMA_MARGIN_MS = 5_000;

export class Database {
  readonly prisma: Db & Pick<PrismaClient, '$disconnect' | '$transaction'>;
  readonly pool: pg.Pool;
  readonly #clients = new Map<number, pg.PoolClient>();
  readonly #leases = new Map<pg.PoolClient, Lease>();

  constructor(pool: pg.Pool) {
    this.pool = pool;
    pool.on('acquire', (client) => this.#clients.set(backendOf(client), client));
    pool.on('remove', (client) => this.#clients.delete(backendOf(client)));
    pool.on('release', (_, client) => this.#end(client));
    const client = new PrismaClient({ adapter: new PrismaPg(pool) });
    // Safe: the extension adds nothing to the client and takes nothing from it; its type says so less plainly.
    this.prisma = client.$extends({
      query: { $allOperations: ({ args, query }) => mapped(query(args)) },
    }) as unknown as PrismaClient;
  }

  /** Runs `work` in one READ COMMITTED transaction; it commits when `work` resolves in time. */
  async transaction<T>(work: (session: Session) => Promise<T>, options: TransactionOptions = {}): Promise<T> {
    const limit = options.timeoutMs ?? TIMEOUT_MS;
    let lease: Lease | undefined;
    let committing = false;
    try {
      return await this.prisma.$transaction(
        async (db) => {
          const client = await this.#open(db, limit);
          lease = new Lease(client, limit);
          this.#leases.set(client, lease);
          const result = await work({ db, client: lease });
          lease.requireOpen();
          committing = true;
          return result;
        },
        // Named, because a server, database or user may have another default: under REPEATABLE READ a reservation would
        // compare with the releases there were before it waited for the budget's lock.
        { isolationLevel: 'ReadCommitted', maxWait: WAIT_MS, timeout: limit + PRISMA_MARGIN_MS },
      );
    } catch (error) {
      const failure = asStoreError(error, committing);
      const late = !committing && lease?.isLate && failure instanceof StoreError;
      throw late && failure.code === 'DATABASE_UNAVAILABLE' ? expired(error) : failure;
    } finally {
      lease?.end();
    }
  }

  /** Sets the server's limits for the transaction of `db`, and finds its connection. */
  async #open(db: Db, limit: number): Promise<pg.PoolClient> {
    const most = String(Math.ceil(limit));
    const whole = String(Math.ceil(limit) + SERVER_MARGIN_MS);
    // transaction_timeout is of PostgreSQL 17; before, a transaction is bounded by statement and by this process.
    const [{ pid }] = await db.$queryRaw<[{ pid: number }]>`
      SELECT pg_backend_pid() AS pid, set_config('statement_timeout', ${most}, true),
        set_config('idle_in_transaction_session_timeout', ${most}, true),
        CASE WHEN current_setting('server_version_num')::int >= 170000
          THEN set_config('transaction_timeout', ${whole}, true) END`;
    const client = this.#clients.get(pid);
    if (client !== undefined) return client;
    throw new StoreError('DATABASE_UNAVAILABLE', 'The database hides its connections behind a pooler.', {
      where: 'DATABASE_URL',
      fix: 'Give the address of the PostgreSQL server itself.',
    });
  }

  #end(client: pg.PoolClient): void {
    this.#leases.get(client)?.end();
    this.#leases.delete(client);
  }

  async close(): Promise<void> {
    await this.prisma.$disconnect();
    await this.pool.end();
  }
}

/**
 * A transaction's use of a pooled connection. When the transaction is over the connection is somebody else's, and a
 * query of a `work` that still runs would be written outside of any transaction.
 */
class Lease implements TransactionClient {
  readonly query: pg.ClientBase['query'];
  readonly #deadline: number;
  #ended = false;

  constructor(client: pg.PoolClient, limit: number) {
    this.#deadline = performance.now() + limit;
    // Safe: every overload is passed on as it came.
    this.query = ((...args: unknown[]) => {
      this.requireOpen();
      return Reflect.apply(client.query, client, args);
    }) as pg.ClientBase['query'];
  }

  get isLate(): boolean {
    return performance.now() >= this.#deadline;
  }

  end(): void {
    this.#ended = true;
  }

  /** @throws StoreError DATABASE_UNAVAILABLE once the transaction has ended or its time is up. */
  requireOpen(): void {
    if (this.#ended || this.isLate) throw expired();
  }
}

// Safe: node-postgres sets processID on every connected client; its types leave it out.
const backendOf = (client: pg.PoolClient): number => (client as unknown as { processID: number }).processID;

/** RFC 8785 bytes for a JSON column. The caller has parsed and checked the value. */
export function jsonBytes(value: unknown): Uint8Array<ArrayBuffer> {
  const text = canonicalize(value);
  if (text === undefined) throw new StoreError('NOT_FOUND', 'There is no JSON value to store.');
  return new TextEncoder().encode(text);
}

export function fromJsonBytes(bytes: Uint8Array): unknown {
  return JSON.parse(new TextDecoder().decode(bytes));
}

/** Safe: Prisma's types exclude views of shared memory, which never reach the store. */
export const asBytes = (bytes: Uint8Array): Uint8Array<ArrayBuffer> => bytes as Uint8Array<ArrayBuffer>;
