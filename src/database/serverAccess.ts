/**
 * `<dataDir>.json`: port and password of an embedded server, mode 0600, replaced as a whole. Without the password the
 * database cannot be opened, so the file is durable before a cluster is made with it, and left alone while it is right.
 */
import { open, readFile, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { StoreError } from '../errors.ts';

export interface Access {
  port: number;
  password: string;
}

/** Null when there is no file. @throws StoreError DATABASE_UNAVAILABLE naming a file that cannot be used. */
export async function readAccess(dataDir: string): Promise<Access | null> {
  const path = `${dataDir}.json`;
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    // Safe: node:fs rejects with system errors only.
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return null;
    throw unusable(path, 'cannot be read', code);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    // No cause: the parser's message repeats the text, which holds the password.
    throw unusable(path, 'is not JSON');
  }
  // Safe: any JSON value but null has members or none; both are checked below.
  const { port, password } = (json ?? {}) as Record<string, unknown>;
  const isPort = typeof port === 'number' && Number.isInteger(port) && port > 0 && port < 65_536;
  if (!isPort || typeof password !== 'string' || password === '') throw unusable(path, 'holds no port and password');
  return { port, password };
}

export async function writeAccess(dataDir: string, access: Access): Promise<void> {
  const path = `${dataDir}.json`;
  const partial = `${path}.${process.pid}`;
  await rm(partial, { force: true });
  const file = await open(partial, 'wx', 0o600);
  try {
    await file.writeFile(`${JSON.stringify(access)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(partial, path);
  // Windows opens no directories; its rename is durable with the file.
  if (process.platform === 'win32') return;
  const directory = await open(dirname(path), 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function unusable(path: string, what: string, code?: string): StoreError {
  const reason = code === undefined ? '' : ` (${code})`;
  return new StoreError('DATABASE_UNAVAILABLE', `The password file of the embedded database ${what}${reason}.`, {
    where: path,
    fix: 'Restore the file from the backup of the node, or choose another data directory.',
  });
}
