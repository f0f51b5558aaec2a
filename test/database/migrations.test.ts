import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { connect, describeUrl, openPool } from '../../src/database/connection.ts';
import { applyMigrations } from '../../src/database/migrations.ts';
import { usePostgres } from '../support/postgres.ts';

const postgres = usePostgres();
let directory: string;

const TABLE = 'CREATE TABLE things (id int PRIMARY KEY);';
// A function body holds semicolons: the script must reach the server whole.
const TRIGGER = `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no; never'; END $$;
CREATE TRIGGER things_refuse BEFORE TRUNCATE ON things EXECUTE FUNCTION refuse();`;

async function migration(parent: string, name: string, sql: string): Promise<void> {
  await mkdir(join(parent, name), { recursive: true });
  await writeFile(join(parent, name, 'migration.sql'), sql);
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veilrisk-migrations-'));
  await migration(directory, '0001_first', TABLE);
  await migration(directory, '0002_second', TRIGGER);
});
afterAll(() => rm(directory, { recursive: true, force: true }));

describe('applyMigrations', () => {
  test('applies all once, in order, and nothing the second time', async () => {
    const url = await postgres.freshDatabase();
    expect(await applyMigrations(url, directory)).toEqual({ applied: ['0001_first', '0002_second'] });
    expect(await applyMigrations(url, directory)).toEqual({ applied: [] });
    const client = await connect(url);
    await expect(client.query('TRUNCATE things')).rejects.toThrow('no; never');
    await client.end();
  });

  test('two starters at once apply each migration exactly once', async () => {
    const url = await postgres.freshDatabase();
    const both = await Promise.all([applyMigrations(url, directory), applyMigrations(url, directory)]);
    expect(both.flatMap(({ applied }) => applied).sort()).toEqual(['0001_first', '0002_second']);
  });

  test('refuses a database with a migration this program does not have, and an edited one', async () => {
    const url = await postgres.freshDatabase();
    const newer = await mkdtemp(join(tmpdir(), 'veilrisk-migrations-'));
    await migration(newer, '0001_first', TABLE);
    await migration(newer, '0003_third', 'CREATE TABLE later (id int PRIMARY KEY);');
    await applyMigrations(url, newer);
    await expect(applyMigrations(url, directory)).rejects.toMatchObject({ code: 'DATABASE_SCHEMA_NEWER' });

    const edited = await postgres.freshDatabase();
    await applyMigrations(edited, directory);
    await migration(newer, '0001_first', `${TABLE} -- edited`);
    await migration(newer, '0002_second', TRIGGER);
    await expect(applyMigrations(edited, newer)).rejects.toMatchObject({ code: 'DATABASE_SCHEMA_NEWER' });
    await rm(newer, { recursive: true, force: true });
  });

  test('a migration that fails leaves nothing of itself behind', async () => {
    const url = await postgres.freshDatabase();
    const broken = await mkdtemp(join(tmpdir(), 'veilrisk-migrations-'));
    await migration(broken, '0001_broken', 'CREATE TABLE half (id int); SELECT nonsense;');
    await expect(applyMigrations(url, broken)).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
    const client = await connect(url);
    const { rows } = await client.query(`SELECT to_regclass('half') AS found`);
    expect(rows[0].found).toBeNull();
    await client.end();
    await rm(broken, { recursive: true, force: true });
  });
});

describe('connection errors', () => {
  test.each(['not a url', 'mysql://u:secret@localhost/x', 'postgresql://u:secret@localhost'])(
    'a malformed URL is refused without repeating it: %s',
    async (url) => {
      const error = await connect(url).catch((caught) => caught);
      expect(error).toMatchObject({ code: 'DATABASE_UNAVAILABLE', fix: expect.stringContaining('DATABASE_URL') });
      expect(`${error.message} ${error.where}`).not.toContain('secret');
    },
  );

  test('an unreachable server and a wrong password are refused without the password', async () => {
    const unreachable = await openPool('postgresql://u:secret@127.0.0.1:1/x').catch((caught) => caught);
    expect(unreachable).toMatchObject({ code: 'DATABASE_UNAVAILABLE', where: '127.0.0.1:1/x' });
    const url = new URL(await postgres.freshDatabase());
    url.password = 'wrong-secret';
    url.username = 'nobody-here';
    const refused = await openPool(url.toString()).catch((caught) => caught);
    expect(refused).toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
    expect(JSON.stringify({ ...refused, message: refused.message })).not.toContain('wrong-secret');
    expect(describeUrl(url.toString())).not.toContain('wrong-secret');
  });
});
