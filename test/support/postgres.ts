/**
 * Fresh empty databases for a test file.
 *
 * Uses the server of TEST_DATABASE_URL when set (its user must be allowed to create databases); otherwise one embedded
 * server per test file, started at the first request in a temporary directory and stopped after the last test.
 *
 *   const postgres = usePostgres();            // at the top of the file: registers the clean-up
 *   const url = await postgres.freshDatabase();
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from '@jest/globals';
import { connect } from '../../src/database/connection.ts';
import { startEmbeddedPostgres } from '../../src/database/embeddedServer.ts';
import { openLog } from '../../src/log.ts';

export interface TestPostgres {
  /** URL of a new empty database, dropped after the last test of the file. */
  freshDatabase(): Promise<string>;
}

interface Server {
  url: string;
  stop(): Promise<void>;
}

async function openServer(): Promise<Server> {
  const given = process.env.TEST_DATABASE_URL;
  if (given) return { url: given, stop: async () => {} };
  const directory = await mkdtemp(join(tmpdir(), 'veilrisk-test-'));
  const server = await startEmbeddedPostgres({ dataDir: join(directory, 'pg'), log: openLog('test', 'silent') });
  return {
    url: server.url,
    async stop() {
      await server.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function administer(url: string, sql: string): Promise<void> {
  const client = await connect(url);
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

/** The same server and user with another database name. */
export function withDatabase(url: string, database: string): string {
  return Object.assign(new URL(url), { pathname: `/${database}` }).href;
}

/** Call once at the top level of a test file. */
export function usePostgres(): TestPostgres {
  let server: Promise<Server> | undefined;
  const created: string[] = [];
  afterAll(async () => {
    if (server === undefined) return;
    const { url, stop } = await server;
    // A server of ours goes with its directory; a given one is left as it was found.
    if (process.env.TEST_DATABASE_URL) {
      for (const name of created) await administer(url, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
    }
    await stop();
  });
  return {
    async freshDatabase() {
      server ??= openServer();
      const { url } = await server;
      const name = `veilrisk_test_${randomBytes(6).toString('hex')}`;
      await administer(url, `CREATE DATABASE ${name}`);
      created.push(name);
      return withDatabase(url, name);
    },
  };
}
