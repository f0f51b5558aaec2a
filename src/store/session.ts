/**
 * What one transaction works with: Prisma for ordinary rows, and the same connection as a plain `pg` client for what
 * Prisma is too slow for or cannot do (numbering audit entries, COPY, row locks).
 *
 * Prisma does not show the connection of its interactive transaction, so it is found by its backend process id in the
 * pool that both share. Limit: behind a connection pooler that renumbers backends this fails, with an error that says so.
 */
import { PrismaPg } from '@prisma/adapter-pg';
import canonicalize from 'canonicalize';
import type pg from 'pg';
import { StoreError } from '../errors.ts';
import { type Prisma, PrismaClient } from './generated/client.ts';

/** Prisma, inside or outside a transaction. */
export type Db = Prisma.TransactionClient;

export interface Session {
  db: Db;
  /** The connection of the same transaction. */
  client: pg.PoolClient;
}

export interface TransactionOptions {
  /** Longest duration of the whole transaction, ms; default one minute. An import asks for more. */
  timeoutMs?: number;
}

const WAIT_MS = 30_000;
const TIMEOUT_MS = 60_000;

export class Database {
  readonly prisma: PrismaClient;
  readonly pool: pg.Pool;
  readonly #clients = new Map<number, pg.PoolClient>();

  constructor(pool: pg.Pool) {
    this.pool = pool;
    pool.on('acquire', (client) => this.#clients.set(backendOf(client), client));
    pool.on('remove', (client) => this.#clients.delete(backendOf(client)));
    this.prisma = new PrismaClient({ adapter: new PrismaPg(pool) });
  }

  /** Runs `work` in one READ COMMITTED transaction; it commits when `work` resolves. */
  async transaction<T>(work: (session: Session) => Promise<T>, options: TransactionOptions = {}): Promise<T> {
    const limits = { maxWait: WAIT_MS, timeout: options.timeoutMs ?? TIMEOUT_MS };
    try {
      return await this.prisma.$transaction(async (db) => {
        const [{ pid }] = await db.$queryRaw<[{ pid: number }]>`SELECT pg_backend_pid() AS pid`;
        const client = this.#clients.get(pid);
        if (client === undefined) {
          throw new StoreError('DATABASE_UNAVAILABLE', 'The database hides its connections behind a pooler.', {
            where: 'DATABASE_URL',
            fix: 'Give the address of the PostgreSQL server itself.',
          });
        }
        return work({ db, client });
      }, limits);
    } catch (error) {
      throw asStoreError(error);
    }
  }

  async close(): Promise<void> {
    await this.prisma.$disconnect();
    await this.pool.end();
  }
}

// Safe: node-postgres sets processID on every connected client; its types leave it out.
const backendOf = (client: pg.PoolClient): number => (client as unknown as { processID: number }).processID;

// Prisma: unreachable, timed out, closed, no transaction slot. SQLSTATE classes 08 and 57P: connection, shutdown.
const GONE = /^(P1001|P1002|P1008|P1017|P2024|P2028|08...|57P..|53300|ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT)$/;
// What node-postgres says without a code, about the connection itself.
const GONE_MESSAGE =
  /^(Connection terminated|Client (has encountered|was closed)|timeout exceeded when trying to connect)/;

/** Maps a driver's error to the closed set; errors of ours and of callers pass. */
export function asStoreError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { code } = error as { code?: unknown };
  if (code === 'P2002' || code === '23505') {
    return new StoreError('ALREADY_EXISTS', 'A row with this key exists already.', { cause: error });
  }
  if ((typeof code === 'string' && GONE.test(code)) || GONE_MESSAGE.test(error.message)) {
    return new StoreError('DATABASE_UNAVAILABLE', 'The database server does not answer.', {
      fix: 'Check that it runs; nothing of this request was written.',
      cause: error,
    });
  }
  return error;
}

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
