/**
 * Opening a PostgreSQL connection from a URL, with errors an operator can act on.
 *
 * Limit: a connection URL holds a password, so no message, log line or error of this room repeats a URL; what is
 * printed is `host:port/database` (`describeUrl`).
 */
import pg from 'pg';
import { StoreError } from '../errors.ts';

const FIX =
  'Start the server, or correct DATABASE_URL (postgresql://USER:PASSWORD@HOST:PORT/DATABASE); ' +
  'unset it to use the embedded server.';

/** `host:port/database` of a connection URL, safe to print. @throws StoreError DATABASE_UNAVAILABLE when malformed. */
export function describeUrl(url: string): string {
  const parsed = parseUrl(url);
  return `${parsed.hostname}:${parsed.port || '5432'}${parsed.pathname}`;
}

/** Connects once. The caller ends the client. @throws StoreError DATABASE_UNAVAILABLE. */
export async function connect(url: string): Promise<pg.Client> {
  const where = describeUrl(url);
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 });
  // A connection that breaks while idle must not end the process: the next query on it fails instead.
  client.on('error', () => {});
  try {
    await client.connect();
  } catch (cause) {
    throw unavailable(where, cause);
  }
  return client;
}

/**
 * A pool of at most `most` connections, checked to answer.
 * @param answerWithinMs after which a statement fails and its connection is given up: one that swallows everything (a firewall
 *   that forgot it) is else waited for until TCP gives up, a quarter of an hour. Left out where statements may take long.
 * @throws StoreError DATABASE_UNAVAILABLE when the server does not answer or refuses the login.
 */
export async function openPool(url: string, most = 10, answerWithinMs?: number): Promise<pg.Pool> {
  const where = describeUrl(url);
  const limit = answerWithinMs === undefined ? {} : { query_timeout: answerWithinMs };
  const pool = new pg.Pool({ connectionString: url, max: most, connectionTimeoutMillis: 10_000, ...limit });
  pool.on('error', () => {});
  // The same for a connection that somebody holds: the pool listens to idle ones only.
  pool.on('connect', (client) => client.on('error', () => {}));
  try {
    await pool.query('SELECT 1');
  } catch (cause) {
    await pool.end();
    throw unavailable(where, cause);
  }
  return pool;
}

function unavailable(where: string, cause: unknown): StoreError {
  // A PostgreSQL error carries a SQLSTATE, a socket error a name such as ECONNREFUSED; neither holds the password.
  // Safe: node-postgres rejects with errors; the member is checked below.
  const code = (cause as { code?: unknown }).code;
  const reason = typeof code === 'string' ? code : 'no answer';
  return new StoreError('DATABASE_UNAVAILABLE', `The database server cannot be used (${reason}).`, {
    where,
    fix: FIX,
    cause,
  });
}

function parseUrl(url: string): URL {
  const parsed = URL.canParse(url) ? new URL(url) : null;
  if (
    parsed === null ||
    !/^postgres(ql)?:$/.test(parsed.protocol) ||
    parsed.hostname === '' ||
    parsed.pathname.length < 2
  ) {
    throw new StoreError('DATABASE_UNAVAILABLE', 'The database URL is not a PostgreSQL URL.', {
      where: 'DATABASE_URL',
      fix: FIX,
    });
  }
  return parsed;
}
