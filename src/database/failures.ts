/**
 * What the drivers' errors mean: PostgreSQL's SQLSTATEs, Prisma's codes and node-postgres' sentences, mapped to the
 * closed set of StoreError. Told by their shape, not their class: they come from several libraries.
 *
 * Source: PostgreSQL documentation, appendix "PostgreSQL Error Codes"; Prisma "Error message reference".
 */
import { StoreError } from '../errors.ts';

// Prisma: unreachable, timed out, closed, no transaction slot. SQLSTATE classes 08 and 57P: connection, shutdown.
const GONE = /^(P1001|P1002|P1008|P1017|P2024|P2028|P2037|08...|57P..|53300|E(CONNREFUSED|CONNRESET|PIPE|TIMEDOUT))$/;
// What node-postgres says without a code, about the connection itself.
const GONE_MESSAGE =
  /^(Connection terminated|Client (has encountered|was closed)|timeout exceeded when trying to connect)/;
// Deadlock, serialization failure, and Prisma's name for both.
const COLLIDED = /^(40001|40P01|P2034)$/;
// A statement, an idle transaction and a whole transaction that took longer than the server was told.
const EXPIRED = /^(57014|25P03|25P04)$/;
const TAKEN = /^(23505|P2002)$/;

/**
 * Maps a driver's error to the closed set; errors of ours and of callers pass.
 * @param committing whether COMMIT had been sent, so that what became of it is unknown when the connection broke.
 */
export function asStoreError(error: unknown, committing = false): unknown {
  if (error instanceof StoreError) return error;
  const codes = codesOf(error);
  const has = (set: RegExp) => codes.some((code) => set.test(code));
  if (has(TAKEN)) return new StoreError('ALREADY_EXISTS', 'A row with this key exists already.', { cause: error });
  if (has(COLLIDED)) {
    return new StoreError('DATABASE_UNAVAILABLE', 'Another transaction was in the way of this one.', {
      fix: 'Try again; nothing of this request was written.',
      cause: error,
    });
  }
  if (has(EXPIRED)) return expired(error);
  if (!has(GONE) && !GONE_MESSAGE.test(messageOf(error))) return error;
  return new StoreError('DATABASE_UNAVAILABLE', 'The database server does not answer.', {
    fix: committing
      ? 'Check that it runs. The connection broke while this request was being committed: it may or may not have been ' +
        'written, and may be repeated with the same idempotency key.'
      : 'Check that it runs; nothing of this request was written.',
    cause: error,
  });
}

/** The result of a driver's call outside a transaction, its errors mapped. */
export async function mapped<T>(result: Promise<T>): Promise<T> {
  try {
    return await result;
  } catch (error) {
    throw asStoreError(error);
  }
}

/** The error of a transaction that was given up. */
export function expired(cause?: unknown): StoreError {
  return new StoreError('DATABASE_UNAVAILABLE', 'The transaction took longer than its limit and was rolled back.', {
    fix: 'Try again when the database is less busy; nothing of this request was written.',
    cause,
  });
}

/** Codes of an error and, for Prisma's, of the driver's error inside. */
function codesOf(error: unknown): string[] {
  const codes: string[] = [];
  const inside = [error, at(error, 'cause'), at(at(error, 'meta'), 'driverAdapterError')];
  for (const each of [...inside, at(inside[2], 'cause')]) {
    for (const name of ['code', 'originalCode']) {
      const code = at(each, name);
      if (typeof code === 'string') codes.push(code);
    }
  }
  return codes;
}

function messageOf(error: unknown): string {
  const message = at(error, 'message');
  return typeof message === 'string' ? message : '';
}

// Safe: any object may be asked for any member.
const at = (value: unknown, name: string): unknown =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined;
