/**
 * A caller's key files on disk, and the keys' life at a node.
 *
 * A file appears whole or not at all and replaces nothing: its bytes are written and synced under another name and then
 * linked to the one asked for, which fails when that exists. Registering, rotating and revoking read the public part
 * only; the passphrase is needed to create a file and to score.
 * Trusted: who can replace a key file can make the caller encrypt under another key, which the node refuses as unknown.
 */
import { randomBytes } from 'node:crypto';
import { link, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import {
  createClient,
  createKeys,
  type KeyReply,
  type KeyState,
  openKeyFile,
  type PresetName,
  publicPart,
  type Rotation,
  type SecretKey,
  sealKeyFile,
} from '../client/client.ts';
import { type PublicPart, registerPublicKey, rotatePublicKey } from '../client/keyRegistry.ts';
import { openService, type ServiceOptions } from '../client/service.ts';
import { ClientError, ContractError, RequestError, StoreError } from '../errors.ts';

const PRIVATE_MODE = 0o600;
/** Of both presets; a longer file is no key file and is not read into memory. */
const LARGEST_KEY_FILE_BYTES = 4 * 1024 * 1024;
const KEY_ID = /^[0-9a-f]{64}$/;
/** What file systems without hard links answer. */
const NO_LINKS = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'];

/**
 * A new key pair in a new file that only this user can read.
 *
 * @throws StoreError ALREADY_EXISTS; ContractError FILE_UNREADABLE when it cannot be written; ClientError OPTION_INVALID
 */
export async function createKeyFile(path: string, preset: PresetName, passphrase: string): Promise<PublicPart> {
  // Before the second that sealing takes; what counts is the link below.
  if (await exists(path)) throw taken(path);
  await stat(dirname(path)).catch((cause) => {
    throw unusable(path, 'written', cause);
  });
  const key = await createKeys(preset);
  await writeNew(path, await sealKeyFile(key, passphrase));
  return { keyId: key.keyId, preset: key.preset, publicKey: key.publicKey };
}

/** What the file shows without its passphrase. @throws ClientError KEY_FILE_MALFORMED; ContractError FILE_UNREADABLE */
export async function readPublicPart(path: string): Promise<PublicPart> {
  return about(path, async () => publicPart(await readKeyBytes(path)));
}

/** @throws ClientError KEY_FILE_MALFORMED, PASSPHRASE_WRONG; ContractError FILE_UNREADABLE */
export async function openSecretKey(path: string, passphrase: string): Promise<SecretKey> {
  return about(path, async () => openKeyFile(await readKeyBytes(path), passphrase));
}

/** @throws ClientError; ContractError FILE_UNREADABLE */
export async function registerKeyFile(
  service: ServiceOptions,
  path: string,
  options: { days?: number | undefined } = {},
): Promise<KeyReply> {
  return registerPublicKey(openService(service), await readPublicPart(path), options);
}

/**
 * Puts the key of file `next` in the place of that of file `old`. A file `next` that exists is used, so that the same
 * call after a crash or a lost reply ends where the first one would have.
 *
 * @param passphrase asked for only when `next` has to be created
 */
export async function rotateKeyFile(
  service: ServiceOptions,
  files: { old: string; next: string },
  options: {
    preset?: PresetName | undefined;
    days?: number | undefined;
    graceHours?: number | undefined;
    passphrase: () => Promise<string>;
  },
): Promise<Rotation & { created: boolean }> {
  const old = await readPublicPart(files.old);
  const created = !(await exists(files.next));
  const next = created
    ? await createKeyFile(files.next, options.preset ?? old.preset, await options.passphrase())
    : await readPublicPart(files.next);
  if (next.keyId === old.keyId) {
    throw new RequestError('USAGE', 'both files hold the same key', {
      where: files.next,
      fix: 'Name a new file; it is created.',
    });
  }
  return { ...(await rotatePublicKey(openService(service), old.keyId, next, options)), created };
}

/** @param key a key file or a key id */
export async function revokeKey(service: ServiceOptions, key: string): Promise<KeyState> {
  const keyId = KEY_ID.test(key) ? key : (await readPublicPart(key)).keyId;
  return createClient(service).revokeKey(keyId);
}

export function listKeys(service: ServiceOptions): Promise<KeyState[]> {
  return createClient(service).keys();
}

async function readKeyBytes(path: string): Promise<Uint8Array> {
  try {
    const { size } = await stat(path);
    if (size > LARGEST_KEY_FILE_BYTES) {
      throw new ClientError('KEY_FILE_MALFORMED', 'the file is too large for a key file', {
        where: path,
        fix: 'Name a file that `veilrisk keys create` made.',
      });
    }
    return new Uint8Array(await readFile(path));
  } catch (cause) {
    if (cause instanceof ClientError) throw cause;
    throw unusable(path, 'read', cause);
  }
}

/** The SDK names a field of the file; a person has to know which file as well. */
async function about<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ClientError) || error.where === path) throw error;
    const { code, message, where, fix } = error;
    throw new ClientError(code, message, {
      where: where === undefined ? path : `${path}: ${where}`,
      ...(fix === undefined ? {} : { fix }),
      cause: error,
    });
  }
}

async function writeNew(path: string, bytes: Uint8Array): Promise<void> {
  const draft = `${path}.${randomBytes(6).toString('hex')}.new`;
  try {
    const file = await open(draft, 'wx', PRIVATE_MODE);
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await link(draft, path).catch(async (cause) => {
      if (!NO_LINKS.includes(codeOf(cause))) throw cause;
      if (await exists(path)) throw taken(path);
      await rename(draft, path);
    });
  } catch (cause) {
    if (codeOf(cause) === 'EEXIST') throw taken(path);
    throw cause instanceof StoreError ? cause : unusable(path, 'written', cause);
  } finally {
    await rm(draft, { force: true });
  }
  await syncFolder(dirname(path));
}

/** So that the name survives a power cut too. */
async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT') return false;
    throw unusable(path, 'read', cause);
  }
}

function codeOf(cause: unknown): string {
  return typeof cause === 'object' && cause !== null && 'code' in cause ? String(cause.code) : '';
}

function taken(path: string): StoreError {
  return new StoreError('ALREADY_EXISTS', 'the file exists and is not overwritten', {
    where: path,
    fix: 'Name another file. A key whose file is lost cannot be recovered.',
  });
}

function unusable(path: string, verb: 'read' | 'written', cause: unknown): ContractError {
  const code = codeOf(cause);
  const what =
    code === 'ENOENT' && verb === 'read' ? 'does not exist' : `cannot be ${verb} (${code || 'unknown cause'})`;
  return new ContractError('FILE_UNREADABLE', `the key file ${what}`, {
    where: path,
    fix:
      verb === 'read' ? 'Check the path, or make one with `veilrisk keys create`.' : 'Check the folder and its rights.',
    cause,
  });
}
