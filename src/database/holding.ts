/**
 * One connection that shows other processes that an embedded server is in use. A node's own pool closes what it does not
 * need, so without this one a command that ends beside a quiet node would take the node's server down with it.
 *
 * Limit: after a crash of a backend, which ends every connection, the server seems unused for `RETRY_MS`.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

const RETRY_MS = 250;

/** Whether the process stays alive for a connection. */
interface Counted {
  ref(): void;
  unref(): void;
}

export interface Holding {
  /** Closes the connection; idempotent. */
  end(): Promise<void>;
}

/** Resolves when the connection is there, or was refused once; does not keep the process alive. */
export async function holdServer(url: string): Promise<Holding> {
  const released = new AbortController();
  let client: (pg.Client & Counted) | undefined;

  async function connect(): Promise<void> {
    // Safe: node-postgres has both methods; its types leave them out.
    const fresh = new pg.Client({
      ...{ connectionString: url, connectionTimeoutMillis: 2_000, keepAlive: true },
    }) as pg.Client & Counted;
    fresh.on('error', () => {});
    fresh.once('end', () => void again());
    client = fresh;
    await fresh.connect();
    fresh.unref();
  }
  async function again(): Promise<void> {
    await sleep(RETRY_MS, undefined, { ref: false, signal: released.signal }).catch(() => {});
    // One that cannot connect ends too, and comes back here.
    if (!released.signal.aborted) await connect().catch(() => {});
  }

  await connect().catch(() => {});
  return {
    async end() {
      released.abort();
      // Until it is closed: a process with nothing else to do would end in the middle of this.
      client?.ref();
      await client?.end().catch(() => {});
    },
  };
}
