/**
 * Tells a running process that the operator's roster has changed on disk.
 *
 * By polling: the file may be on a network share or a container's volume, where change notifications do not arrive.
 */

import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { rosterHash, type SignedRoster } from '../protocol/roster.ts';
import { checkSuccession } from './membership.ts';

const ROSTER_POLL_MS = 2_000;

export interface RosterWatch {
  /** Looked at; `read` is called when it has changed, and the first time. */
  file: string;
  /** Parses the file; throws when it is no roster, or not one to follow. */
  read: () => Promise<SignedRoster | null>;
  /** Why a changed file is not followed. */
  refused: (error: unknown) => void;
  signal: AbortSignal;
  /** Cuts the wait for the next look short; used anew after each look. */
  look?: () => Promise<void>;
}

/** The next roster that may follow `current`, or null at the end. */
export async function nextRoster(current: SignedRoster | null, watch: RosterWatch): Promise<SignedRoster | null> {
  const hash = current === null ? '' : rosterHash(current.roster);
  let seen: string | undefined;
  while (!watch.signal.aborted) {
    await Promise.race([
      sleep(ROSTER_POLL_MS, undefined, { signal: watch.signal }).catch(() => {}),
      ...(watch.look ? [watch.look()] : []),
    ]);
    if (watch.signal.aborted) return null;
    // A missing file is a change too: what `read` says of it is said once.
    const text = await readFile(watch.file, 'utf8').catch(() => '');
    if (text === seen) continue;
    seen = text;
    try {
      const next = await watch.read();
      if (next === null || rosterHash(next.roster) === hash) continue;
      checkSuccession(current?.roster ?? null, next.roster);
      return next;
    } catch (error) {
      watch.refused(error);
    }
  }
  return null;
}
