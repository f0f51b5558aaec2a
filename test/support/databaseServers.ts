/**
 * What the files of a test run share: a cache of compiled modules for the processes they start, and the embedded
 * PostgreSQL servers, one for each jest worker, started when a file first asks for it and stopped when the run ends, is
 * interrupted or fails. A run whose files need none starts none.
 *
 * Jest's own process is the one that outlives every test file, so it owns the servers; files ask for one through a socket
 * in the run's directory (`askForServer`). One server for each worker, because a file may use all its connections.
 * Limit: SIGKILL on jest's process leaves servers and directory behind.
 */
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { createConnection, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { connect } from '../../src/database/connection.ts';
import { type EmbeddedServer, startEmbeddedPostgres } from '../../src/database/embeddedServer.ts';
import { openLog } from '../../src/log.ts';

/** Names the socket for the workers of this run, which inherit the environment. */
const SOCKET = 'TEST_SERVERS_SOCKET';
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Jest's globalSetup. */
export default async function openServers(): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'veilrisk-test-'));
  // The user that runs the server finds its data below; names stay hidden, and only we may write to the socket.
  await chmod(directory, 0o711);
  // The commands that tests start are one program: compiled once for the run, each starts in half the time.
  process.env.NODE_COMPILE_CACHE ??= join(directory, 'compiled');
  const servers = new Map<string, Promise<EmbeddedServer>>();
  const socket = createServer({ allowHalfOpen: true }, async (asking) => {
    asking.on('error', () => {});
    const worker = await text(asking);
    const server = servers.get(worker) ?? startServer(join(directory, worker));
    servers.set(worker, server);
    asking.end(await server.then(JSON.stringify, (error: Error) => JSON.stringify({ failure: String(error) })));
  });
  socket.listen(join(directory, 'socket'));
  await once(socket, 'listening');
  socket.unref();
  process.env[SOCKET] = join(directory, 'socket');
  const interrupted = (signal: NodeJS.Signals) => {
    for (const name of SIGNALS) process.off(name, interrupted);
    close(socket, servers, directory).finally(() => process.kill(process.pid, signal));
  };
  for (const signal of SIGNALS) process.once(signal, interrupted);
  closers.push(async () => {
    for (const signal of SIGNALS) process.off(signal, interrupted);
    await close(socket, servers, directory);
  });
}

// Safe: filled by globalSetup and emptied by globalTeardown, both in jest's own process.
const closers: (() => Promise<void>)[] = [];

/** For jest's globalTeardown. */
export async function closeServers(): Promise<void> {
  for (const close of closers.splice(0)) await close();
}

async function close(socket: Server, servers: Map<string, Promise<EmbeddedServer>>, directory: string) {
  socket.close();
  for (const server of servers.values()) await server.then((one) => one.stop()).catch(() => {});
  await rm(directory, { recursive: true, force: true, maxRetries: 3 });
}

async function startServer(dataDir: string): Promise<EmbeddedServer> {
  const server = await startEmbeddedPostgres({ dataDir, log: openLog('test', 'silent') });
  const client = await connect(server.url);
  try {
    // No test cuts the power: what the server has written is there for every process, synced or not.
    await client.query('ALTER SYSTEM SET fsync = off');
    await client.query('SELECT pg_reload_conf()');
  } finally {
    await client.end();
  }
  return server;
}

/** URL of this worker's server, started now if it is the first to ask. */
export async function askForServer(): Promise<string> {
  const path = process.env[SOCKET];
  if (path === undefined) throw new Error('Database tests run under jest with the globalSetup of jest.config.js.');
  const asking = createConnection(path);
  asking.end(process.env.JEST_WORKER_ID ?? '1');
  const answer: { url?: string; failure?: string } = JSON.parse(await text(asking));
  if (answer.url === undefined) throw new Error(answer.failure);
  return answer.url;
}
