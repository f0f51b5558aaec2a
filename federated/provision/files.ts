/**
 * Files of provisioning: read as JSON or refused, written whole or not at all.
 */

import { open, readFile, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { FederationError } from '../../src/errors.ts';
import { parseSignedRoster, rosterHash, type SignedRoster } from '../protocol/roster.ts';

/** Undefined when there is no such file. Throws ROSTER_INVALID when it cannot be read or is not JSON. */
export async function readOptionalJson(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    // Safe: node:fs rejects with system errors only.
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw unreadable(path, 'cannot be read', cause);
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw unreadable(path, 'is not JSON', cause);
  }
}

/** Throws ROSTER_INVALID when the file is missing too. */
export async function readJsonFile(path: string): Promise<unknown> {
  const json = await readOptionalJson(path);
  if (json === undefined) throw unreadable(path, 'does not exist');
  return json;
}

/** After a crash the file is the old one or the new one. */
export async function writeWhole(path: string, text: string, mode = 0o644): Promise<void> {
  const draft = `${path}.new`;
  try {
    await rm(draft, { force: true });
    const file = await open(draft, 'wx', mode);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(draft, path);
    await syncDirectory(path);
  } catch (cause) {
    throw unreadable(path, 'cannot be written', cause);
  }
}

/** Makes a rename survive a power failure; some systems cannot open a directory, and do without. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(dirname(path), 'r').catch(() => undefined);
  try {
    await directory?.sync().catch(() => {});
  } finally {
    await directory?.close();
  }
}

/** Throws ROSTER_INVALID. */
export async function readRosterFile(path: string): Promise<SignedRoster> {
  return parseSignedRoster(await readJsonFile(path));
}

/**
 * Only an older roster of the same operator is replaced.
 * @throws FederationError ROSTER_INVALID when the file is something else, or a newer or another roster.
 */
export async function checkReplaceable(path: string, signed: SignedRoster): Promise<void> {
  const there = await readOptionalJson(path);
  if (there !== undefined) {
    const before = parseSignedRoster(there).roster;
    const same = rosterHash(before) === rosterHash(signed.roster);
    const older = before.version < signed.roster.version;
    if (before.operator.identityKey !== signed.roster.operator.identityKey || !(same || older)) {
      throw new FederationError('ROSTER_INVALID', 'The file holds another roster, which is not replaced.', {
        where: path,
        fix: 'Choose another --out.',
      });
    }
  }
}

/** As `checkReplaceable` allows. */
export function writeRosterFile(path: string, signed: SignedRoster): Promise<void> {
  return writeWhole(path, `${JSON.stringify(signed, null, 2)}\n`);
}

function unreadable(path: string, what: string, cause?: unknown): FederationError {
  return new FederationError('ROSTER_INVALID', `A file ${what}.`, {
    where: path,
    fix: 'Check the path and who may use it.',
    cause,
  });
}
