/**
 * Fresh empty databases for a test file.
 *
 * Uses the server of TEST_DATABASE_URL when set (its user must be allowed to create databases); otherwise the embedded
 * server of this jest worker (databaseServers.ts), which is started when the first file asks for a database.
 *
 *   const postgres = usePostgres();            // at the top of the file: registers the clean-up
 *   const url = await postgres.freshDatabase();
 */
import { randomBytes } from 'node:crypto';
import { afterAll } from '@jest/globals';
import { connect } from '../../src/database/connection.ts';
import { askForServer } from './databaseServers.ts';

export interface TestPostgres {
  /** URL of a new empty database, dropped after the last test of the file. */
  freshDatabase(): Promise<string>;
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
  let server: Promise<string> | undefined;
  const created: string[] = [];
  afterAll(async () => {
    if (server === undefined || created.length === 0) return;
    const client = await connect(await server);
    try {
      for (const name of created) await client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
    } finally {
      await client.end();
    }
  });
  return {
    async freshDatabase() {
      server ??= process.env.TEST_DATABASE_URL ? Promise.resolve(process.env.TEST_DATABASE_URL) : askForServer();
      const url = await server;
      const name = `veilrisk_test_${randomBytes(6).toString('hex')}`;
      await administer(url, `CREATE DATABASE ${name}`);
      created.push(name);
      return withDatabase(url, name);
    },
  };
}
