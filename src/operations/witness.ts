/**
 * The bank as a witness: verifies that the aggregator's log only grows, cosigns its heads, and has its own log cosigned.
 *
 * Source: C2SP tlog-witness and tlog-cosignature; its statuses as codes of FederationError: 400 MESSAGE_MALFORMED, 403
 * MESSAGE_SIGNATURE, 404 LOG_UNKNOWN, 409 LOG_STALE, 422 LOG_INCONSISTENT. What contradicts an accepted head is kept, in
 * the database with an audit entry and as a file for others to verify. Limit: the first head of a log is taken as it is.
 */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { aggregatorLogName, aggregatorWitnessName, siteWitnessName } from '../../federated/protocol/logNames.ts';
import type { Roster } from '../../federated/protocol/roster.ts';
import { toBase64 } from '../audit/bytes.ts';
import type { Checkpoint } from '../audit/checkpoint.ts';
import { cosign, encodeWitnessKey, parseWitnessKey, verifyCosignature } from '../audit/cosignature.ts';
import { encodeVerifierKey, openNote, parseVerifierKey } from '../audit/note.ts';
import { AuditError, FederationError } from '../errors.ts';
import type { Head, LogWitness } from '../participant/port.ts';
import { type Contradiction, evidenceDigest, type ShownHead } from '../store/witness.ts';
import { type EquivocationFile, EVIDENCE_FORMAT } from './compareCheckpoints.ts';
import type { NodeContext } from './context.ts';

/** A note of three lines and its signatures; 64 hashes prove anything below 2^63 entries. */
const MAX_NOTE_CHARACTERS = 16_384;
const MAX_HASHES = 64;
const HASH_BYTES = 32;
/** Notes that were shown and may come back cosigned: only so many are under way. */
const KEPT = 8;

type Witnessing = Pick<NodeContext, 'name' | 'store' | 'identity' | 'clock' | 'log' | 'dataDir'>;

/** The two logs of a consortium as this node sees them. */
export function openWitness(context: Witnessing, roster: Pick<Roster, 'consortium' | 'aggregator'>): LogWitness {
  const { store, identity } = context;
  const aggregator = Buffer.from(roster.aggregator.identityKey, 'base64');
  const key = parseVerifierKey(encodeVerifierKey(aggregatorLogName(roster), aggregator));
  const own = {
    verifierKey: encodeWitnessKey(siteWitnessName(context.name), Buffer.from(identity.publicKey, 'base64')),
    sign: (bytes: Uint8Array) => identity.sign(bytes),
  };
  const theirs = encodeWitnessKey(aggregatorWitnessName(roster), aggregator);
  const shown = new Map<number, string>();
  return {
    verifierKey: store.audit.verifierKey,
    size: () => store.witness.acceptedSize(key.name),
    async witness(head) {
      const verdict = await judge(context, key, shownHead(head, key.name));
      switch (verdict.kind) {
        case 'stale':
          throw new FederationError('LOG_STALE', 'The proof starts from another size than this node has seen.', {
            where: `size ${verdict.size}`,
            fix: 'None: this node connects again and says how far it has seen the log.',
          });
        case 'inconsistent':
          throw await refuse(context, verdict.contradiction);
        case 'accepted': {
          const { checkpoint, newest } = verdict;
          const time = Math.floor(context.clock().getTime() / 1_000);
          const cosignature = newest ? await cosign(head.checkpoint, own, time) : '';
          return { cosignature, logHead: headName(checkpoint) };
        }
      }
    },
    async ownHead(oldSize) {
      const { size, checkpoint } = await store.audit.head();
      shown.set(size, checkpoint);
      for (const oldest of shown.keys()) if (shown.size > KEPT) shown.delete(oldest);
      // A witness that has seen more than there is will say that this database was set back.
      const proof = oldSize > 0 && oldSize < size ? await store.witness.prove(oldSize, size) : [];
      return { checkpoint, oldSize: BigInt(oldSize), proof: proof.map((hash) => new Uint8Array(hash)) };
    },
    async ownCosigned(line, size) {
      const checkpoint = shown.get(size);
      if (checkpoint === undefined) return;
      await verifyCosignature(checkpoint, line, parseWitnessKey(theirs));
      await store.witness.keepCosignature({ witness: theirs, checkpoint, line });
    },
  };
}

/** 32 bytes that name a head: SHA-256 of "size\nroot in base64\n". */
function headName({ size, root }: Pick<Checkpoint, 'size' | 'root'>): Uint8Array {
  return new Uint8Array(
    createHash('sha256')
      .update(`${size}\n${toBase64(root)}\n`)
      .digest(),
  );
}

/** @throws FederationError MESSAGE_MALFORMED, LOG_UNKNOWN. */
function shownHead({ checkpoint, oldSize, proof }: Head, origin: string): ShownHead {
  const isSmall = checkpoint.length <= MAX_NOTE_CHARACTERS && proof.length <= MAX_HASHES;
  if (!isSmall || proof.some((hash) => hash.length !== HASH_BYTES) || oldSize > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new FederationError('MESSAGE_MALFORMED', 'The head of the log is malformed.', { where: 'log' });
  }
  let named: string;
  try {
    [named] = openNote(checkpoint).text.split('\n', 1);
  } catch (cause) {
    throw new FederationError('MESSAGE_MALFORMED', 'The checkpoint is not a signed note.', { where: 'log', cause });
  }
  if (named !== origin) {
    throw new FederationError('LOG_UNKNOWN', "The checkpoint is of another log than the aggregator's.", {
      where: 'log',
      fix: `The roster names the log ${origin}.`,
    });
  }
  return { checkpoint, oldSize: Number(oldSize), proof };
}

async function judge({ store }: Witnessing, key: ReturnType<typeof parseVerifierKey>, head: ShownHead) {
  try {
    return await store.witness.accept(key, head);
  } catch (cause) {
    if (!(cause instanceof AuditError)) throw cause;
    const code = cause.code === 'AUDIT_SIGNATURE_INVALID' ? 'MESSAGE_SIGNATURE' : 'MESSAGE_MALFORMED';
    throw new FederationError(code, `The head of the aggregator's log is refused: ${cause.message}`, {
      where: 'log',
      fix: 'Check that the roster names the key the aggregator signs with; a new key needs a log of another name.',
      cause,
    });
  }
}

/** Keeps the evidence, once, and says where. */
async function refuse(context: Witnessing, contradiction: Contradiction): Promise<FederationError> {
  const { store, log, dataDir } = context;
  const { origin, reason } = contradiction;
  const digest = evidenceDigest(contradiction);
  const kept = await store.transaction(async (tx) => {
    const kept = await tx.witness.keepEvidence(contradiction);
    const details = { origin, reason, evidence: digest };
    const entry = { type: 'witness.refuse', actor: 'aggregator', outcome: 'refused', details };
    if (kept === 'new') await tx.append(entry);
    return kept;
  });
  const path =
    dataDir === undefined || kept === 'full' ? null : join(dataDir, `equivocation-${digest.slice(0, 16)}.json`);
  if (path !== null) await writeEvidence(path, contradiction, context.clock());
  log.error({ origin, evidence: path ?? digest }, `the log contradicts what it signed before: ${reason}`);
  return new FederationError('LOG_INCONSISTENT', `The aggregator's log contradicts itself. ${reason}`, {
    where: path ?? `evidence ${digest}`,
    fix:
      'Compare the evidence with what other banks were shown (`veilrisk audit compare`). If the aggregator lost its ' +
      'database, the consortium agrees on a new log by giving the aggregator another name in the roster.',
  });
}

async function writeEvidence(path: string, contradiction: Contradiction, time: Date): Promise<void> {
  const { origin, verifierKey, known, head, reason } = contradiction;
  const evidence: EquivocationFile = {
    ...{ format: EVIDENCE_FORMAT, origin, verifierKey, known, shown: head.checkpoint },
    ...{ oldSize: head.oldSize, proof: head.proof.map(toBase64), reason, time: time.toISOString() },
  };
  let file: Awaited<ReturnType<typeof open>>;
  try {
    file = await open(path, 'wx', 0o644);
  } catch (error) {
    // Safe: node:fs rejects with system errors only.
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return;
    throw error;
  }
  try {
    await file.writeFile(`${JSON.stringify(evidence, null, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
}
