/**
 * The aggregator as the witness of the sites' own logs (C2SP tlog-witness; its HTTP statuses as stable codes).
 *
 * 400 MESSAGE_MALFORMED, 403 MESSAGE_SIGNATURE, 404 LOG_UNKNOWN, 409 LOG_STALE (with the size that was cosigned last),
 * 422 LOG_INCONSISTENT (both notes are kept as evidence, and an entry is made). Limit: the key of a site's log is the
 * first that the site names, in a message signed with its identity key.
 */

import type pg from 'pg';
import { cosign, type Witness } from '../../src/audit/cosignature.ts';
import type { EntryDraft } from '../../src/audit/entry.ts';
import { openNote, parseVerifierKey } from '../../src/audit/note.ts';
import { AuditError, type FederationErrorCode } from '../../src/errors.ts';
import type { Queryable } from '../../src/journal/head.ts';
import {
  acceptedHead,
  acceptHead,
  type Contradiction,
  evidenceDigest,
  keepEvidence,
} from '../../src/journal/witness.ts';
import type { Log } from '../../src/log.ts';
import { siteLogName } from '../protocol/logNames.ts';
import type { CosignedInit, LogHeadInit } from './log.ts';
import { transaction } from './store/database.ts';

/** A note of three lines and its signatures; 64 hashes prove anything below 2^63 entries. */
const MAX_NOTE_CHARACTERS = 16_384;
const MAX_HASHES = 64;

export interface SiteWitness {
  pool: pg.Pool;
  log: Log;
  witness: Witness;
}

/** @param append enters an entry into the aggregator's own log, in the transaction of the evidence. */
export async function witnessSite(
  { pool, log, witness }: SiteWitness,
  site: string,
  { checkpoint = '', oldSize = 0n, proof = [] }: LogHeadInit,
  verifierKey: string,
  append: (client: Queryable, draft: EntryDraft) => Promise<void>,
): Promise<CosignedInit> {
  const name = siteLogName(site);
  const refuse = (code: FederationErrorCode, size = 0): CosignedInit => {
    log.warn({ site, code, size }, 'a checkpoint was not cosigned');
    return { size: BigInt(size), code };
  };
  if (
    checkpoint.length > MAX_NOTE_CHARACTERS ||
    proof.length > MAX_HASHES ||
    proof.some((hash) => hash.length !== 32)
  ) {
    return refuse('MESSAGE_MALFORMED');
  }
  const head = { checkpoint, oldSize: Number(oldSize), proof };
  try {
    const key = parseVerifierKey(verifierKey);
    if (key.name !== name || openNote(checkpoint).text.split('\n', 1)[0] !== name) return refuse('LOG_UNKNOWN');
    const verdict = await acceptHead(pool, key, head);
    switch (verdict.kind) {
      case 'stale':
        return refuse('LOG_STALE', verdict.size);
      case 'inconsistent':
        await record(pool, log, verdict.contradiction, append);
        return refuse('LOG_INCONSISTENT', (await acceptedHead(pool, name))?.size ?? 0);
      case 'accepted': {
        // A prefix of what was cosigned: nothing new to cosign, and the site is told where to go on.
        if (!verdict.newest) return refuse('LOG_STALE', (await acceptedHead(pool, name))?.size ?? 0);
        const cosignature = await cosign(checkpoint, witness, Math.floor(Date.now() / 1_000));
        return { size: BigInt(verdict.checkpoint.size), cosignature };
      }
    }
  } catch (error) {
    if (!(error instanceof AuditError)) throw error;
    return refuse(error.code === 'AUDIT_SIGNATURE_INVALID' ? 'MESSAGE_SIGNATURE' : 'MESSAGE_MALFORMED');
  }
}

async function record(
  pool: pg.Pool,
  log: Log,
  contradiction: Contradiction,
  append: (client: Queryable, draft: EntryDraft) => Promise<void>,
): Promise<void> {
  const { origin, reason } = contradiction;
  log.error({ origin }, `a log contradicts what it signed before: ${reason}`);
  await transaction(pool, async (client) => {
    if ((await keepEvidence(client, contradiction)) !== 'new') return;
    const details = { origin, reason, evidence: evidenceDigest(contradiction) };
    await append(client, { type: 'witness.refuse', actor: 'aggregator', outcome: 'refused', details });
  });
}
