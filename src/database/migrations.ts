/**
 * Applies the committed migrations in process, safely when several processes start on one database at once.
 *
 * A directory of migrations is Prisma's: `<name>/migration.sql` in lexical order, state in `_prisma_migrations`.
 * Limit: forward only. A database that knows a migration this program does not is refused, never rolled back.
 */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import type { MigrationList } from '@prisma/schema-engine-wasm';
import { StoreError } from '../errors.ts';
import { connect, describeUrl } from './connection.ts';
import { withSchemaEngine } from './schemaEngine.ts';

/** Schema filter that leaves nothing out. */
export const NO_FILTER = { externalTables: [], externalEnums: [] };

/** Reads a migrations directory (absolute path) in the form the engine takes. */
async function readMigrations(directory: string): Promise<MigrationList> {
  const found = await readdir(directory, { withFileTypes: true });
  const names = found
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
    .sort();
  return {
    baseDir: directory,
    lockfile: { path: './migration_lock.toml', content: 'provider = "postgresql"\n' },
    shadowDbInitScript: '',
    migrationDirectories: await Promise.all(
      names.map(async (name) => ({
        path: name,
        migrationFile: {
          path: 'migration.sql',
          content: { tag: 'ok' as const, value: await readFile(`${directory}/${name}/migration.sql`, 'utf8') },
        },
      })),
    ),
  };
}

/**
 * Brings the database at `url` to the newest migration of `directory` (absolute path); returns the names applied now.
 * @throws StoreError DATABASE_UNAVAILABLE, also when a migration fails; DATABASE_SCHEMA_NEWER when the database holds a
 *   migration, or a version of one, that this program does not have.
 */
export async function applyMigrations(url: string, directory: string): Promise<{ applied: string[] }> {
  const migrationsList = await readMigrations(directory);
  const client = await connect(url);
  try {
    // Session lock, released with the connection: a killed process cannot leave it behind.
    await client.query(`SELECT pg_advisory_lock(hashtext('veilrisk migrations'))`);
    const pending = await pendingMigrations(client, migrationsList, describeUrl(url));
    if (pending === 0) return { applied: [] };
    const { appliedMigrationNames } = await withSchemaEngine(url, (engine) =>
      engine.applyMigrations({ migrationsList, filters: NO_FILTER }),
    ).catch((cause) => {
      throw new StoreError('DATABASE_UNAVAILABLE', 'A migration of the database failed; it left nothing of itself.', {
        where: describeUrl(url),
        fix: 'Read the cause in the log; a database that other software changed must be repaired or replaced.',
        cause,
      });
    });
    return { applied: appliedMigrationNames };
  } finally {
    await client.end();
  }
}

interface Queryable {
  query(sql: string): Promise<{ rows: { name: string; checksum: string }[] }>;
}

async function pendingMigrations(client: Queryable, list: MigrationList, where: string): Promise<number> {
  const known = new Map(
    list.migrationDirectories.map(({ path, migrationFile }) => [
      path,
      createHash('sha256')
        .update(migrationFile.content.value ?? '')
        .digest('hex'),
    ]),
  );
  const table = await client.query(`SELECT to_regclass('_prisma_migrations')::text AS name, '' AS checksum`);
  if (table.rows[0].name === null) return known.size;
  const { rows } = await client.query(
    `SELECT migration_name AS name, checksum FROM _prisma_migrations
     WHERE rolled_back_at IS NULL AND finished_at IS NOT NULL ORDER BY migration_name`,
  );
  for (const { name, checksum } of rows) {
    if (known.get(name) === checksum) continue;
    throw new StoreError('DATABASE_SCHEMA_NEWER', `The database has migration ${name}, which this version does not.`, {
      where,
      fix: 'Run the version of Veilrisk that last used this database, or a newer one.',
    });
  }
  return known.size - rows.length;
}
