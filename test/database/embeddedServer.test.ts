import { spawn } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { connect } from '../../src/database/connection.ts';
import { startEmbeddedPostgres } from '../../src/database/embeddedServer.ts';
import { isServer, serverUser } from '../../src/database/serverFiles.ts';
import { openLog } from '../../src/log.ts';

const log = openLog('test', 'silent');
let parent: string;
beforeAll(async () => {
  parent = await mkdtemp(join(tmpdir(), 'veilrisk-embedded-'));
});
afterAll(() => rm(parent, { recursive: true, force: true }));

const query = async (url: string, sql: string) => {
  const client = await connect(url);
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
};
const postmasterPid = async (dataDir: string) =>
  Number((await readFile(join(dataDir, 'postmaster.pid'), 'utf8')).split('\n')[0]);
const alive = (pid: number) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

describe('embedded server', () => {
  test('starts, keeps its data over a restart, listens locally only and hides its password', async () => {
    const dataDir = join(parent, 'one', 'pg');
    const first = await startEmbeddedPostgres({ dataDir, log });
    expect(first.adopted).toBe(false);
    await query(first.url, 'CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)');
    expect(await query(first.url, 'SHOW fsync')).toEqual([{ fsync: 'on' }]);
    expect(await query(first.url, 'SHOW listen_addresses')).toEqual([{ listen_addresses: '127.0.0.1' }]);
    expect((await stat(`${dataDir}.json`)).mode & 0o777).toBe(0o600);
    const { password } = JSON.parse(await readFile(`${dataDir}.json`, 'utf8'));
    expect(password).toMatch(/^[0-9a-f]{48}$/);
    expect(await readFile(`${dataDir}.log`, 'utf8')).not.toContain(password);
    await expect(connect(first.url.replace(password, 'guess'))).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
    const pid = await postmasterPid(dataDir);
    await first.stop();
    await first.stop();
    expect(alive(pid)).toBe(false);

    const second = await startEmbeddedPostgres({ dataDir, log });
    expect(new URL(second.url).port).toBe(new URL(first.url).port);
    expect(await query(second.url, 'SELECT id FROM kept')).toEqual([{ id: 7 }]);
    await second.stop();
  });

  test('a server left over by a killed process is adopted; two users share it and the last one stops it', async () => {
    const dataDir = join(parent, 'two', 'pg');
    const child = spawn(process.execPath, [join(import.meta.dirname, 'startAndWait.ts'), dataDir], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await new Promise((ready) => child.stdout.once('data', ready));
    child.kill('SIGKILL');
    await new Promise((gone) => child.once('exit', gone));
    const pid = await postmasterPid(dataDir);
    expect(alive(pid)).toBe(true);

    const a = await startEmbeddedPostgres({ dataDir, log });
    const b = await startEmbeddedPostgres({ dataDir, log });
    expect([a.adopted, b.adopted]).toEqual([true, true]);
    // b is quiet: no connection of its pool is open.
    await a.release();
    expect(alive(pid)).toBe(true);
    const user = await connect(b.url);
    await query(b.url, 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()');
    await user.end().catch(() => {});
    const held = `SELECT 1 FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`;
    while ((await query(b.url, held)).length === 0) await new Promise((later) => setTimeout(later, 20));
    await (await startEmbeddedPostgres({ dataDir, log })).release();
    expect(alive(pid)).toBe(true);
    await b.release();
    expect(alive(pid)).toBe(false);
  });

  test('a command with nothing else to wait for ends when it has let go of the server', async () => {
    const child = spawn(
      process.execPath,
      [join(import.meta.dirname, 'startAndRelease.ts'), join(parent, 'brief', 'pg')],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    let said = '';
    child.stdout.on('data', (chunk) => {
      said += chunk;
    });
    const code = await new Promise((ended) => child.once('close', ended));
    expect({ code, said }).toEqual({ code: 0, said: 'released\n' });
  });

  test('a killed server recovers what was committed', async () => {
    const dataDir = join(parent, 'three', 'pg');
    const first = await startEmbeddedPostgres({ dataDir, log });
    await query(first.url, 'CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)');
    const pid = await postmasterPid(dataDir);
    process.kill(pid, 'SIGKILL');
    while (alive(pid)) await new Promise((later) => setTimeout(later, 10));
    await first.stop();
    const second = await startEmbeddedPostgres({ dataDir, log });
    expect(second.adopted).toBe(false);
    expect(await query(second.url, 'SELECT id FROM kept')).toEqual([{ id: 7 }]);
    await second.stop();
  });

  test('a data directory without its password file, and one that is no cluster, are refused with a way out', async () => {
    const dataDir = join(parent, 'four', 'pg');
    await (await startEmbeddedPostgres({ dataDir, log })).stop();
    await rm(`${dataDir}.json`);
    await expect(startEmbeddedPostgres({ dataDir, log })).rejects.toMatchObject({
      code: 'DATABASE_UNAVAILABLE',
      where: `${dataDir}.json`,
    });
    const occupied = join(parent, 'five', 'pg');
    await mkdir(occupied, { recursive: true });
    await writeFile(join(occupied, 'letter.txt'), 'not a database');
    await expect(startEmbeddedPostgres({ dataDir: occupied, log })).rejects.toMatchObject({
      code: 'DATABASE_UNAVAILABLE',
      where: occupied,
    });
  });

  test('its password file is written when it changes only, and named when it is broken', async () => {
    const dataDir = join(parent, 'six', 'pg');
    const path = `${dataDir}.json`;
    await (await startEmbeddedPostgres({ dataDir, log })).stop();
    const before = await stat(path);
    await (await startEmbeddedPostgres({ dataDir, log })).stop();
    expect((await stat(path)).ino).toBe(before.ino);

    const { password } = JSON.parse(await readFile(path, 'utf8'));
    for (const broken of [
      '',
      `{"port":1,"password":"${password}"`,
      'null',
      '{"port":"1","password":"x"}',
      '{"port":1}',
    ]) {
      await writeFile(path, broken);
      const error = await startEmbeddedPostgres({ dataDir, log }).catch((caught) => caught);
      expect(error).toMatchObject({ code: 'DATABASE_UNAVAILABLE', where: path });
      expect(`${error.message} ${error.cause}`).not.toContain(password.slice(0, 8));
    }
  });

  const root = process.getuid?.() === 0;
  (root ? test : test.skip)('as root: a process of another user is neither adopted nor signalled', async () => {
    const dataDir = join(parent, 'seven', 'pg');
    await (await startEmbeddedPostgres({ dataDir, log })).stop();
    // A bystander of root's whose command line says postgres, named by the file that the server's user can write.
    const bystander = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1_000)', 'postgres'], { stdio: 'ignore' });
    try {
      const { port } = JSON.parse(await readFile(`${dataDir}.json`, 'utf8'));
      const lines = [bystander.pid, dataDir, 0, port, '', '127.0.0.1', '', 'ready'];
      await writeFile(join(dataDir, 'postmaster.pid'), lines.join('\n'));
      expect(isServer(bystander.pid ?? 0, await serverUser())).toBe(false);
      expect(isServer(bystander.pid ?? 0, { uid: 0, gid: 0 })).toBe(true);
      const started = performance.now();
      const outcome = await startEmbeddedPostgres({ dataDir, log }).catch((caught) => caught);
      expect(performance.now() - started).toBeLessThan(30_000);
      if ('stop' in outcome) await outcome.stop();
      else expect(outcome).toMatchObject({ code: 'DATABASE_UNAVAILABLE', where: dataDir });
      expect(bystander.exitCode ?? bystander.signalCode).toBeNull();
    } finally {
      bystander.kill('SIGKILL');
    }
  });

  (root ? test : test.skip)(
    'as root: a closed temporary parent is opened for search, a closed home is refused by name',
    async () => {
      const closed = await mkdtemp(join(parent, 'closed-'));
      await chmod(closed, 0o700);
      await (await startEmbeddedPostgres({ dataDir: join(closed, 'pg'), log })).stop();
      expect((await stat(closed)).mode & 0o777).toBe(0o711);

      const home = await mkdtemp('/var/veilrisk-home-');
      try {
        await expect(startEmbeddedPostgres({ dataDir: join(home, 'pg'), log })).rejects.toMatchObject({
          code: 'DATABASE_UNAVAILABLE',
          where: home,
        });
        expect((await stat(home)).mode & 0o777).toBe(0o700);
      } finally {
        await rm(home, { recursive: true, force: true });
      }
    },
  );
});
