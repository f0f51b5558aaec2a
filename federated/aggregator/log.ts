/**
 * The aggregator's own log: every roster, plan, round and model as an entry that cannot be changed later, shown to the
 * sites with their tasks and cosigned by them (C2SP tlog-checkpoint, tlog-witness, tlog-cosignature; src/audit/FORMAT.md).
 *
 * Limit: an entry says what the aggregator did, not that it was right; two sites that were shown two logs find out
 * because the head is part of every agreement and of every cosignature.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type pg from 'pg';
import { encodeWitnessKey, type Witness } from '../../src/audit/cosignature.ts';
import { type EntryDraft, entryBytes } from '../../src/audit/entry.ts';
import { encodeVerifierKey } from '../../src/audit/note.ts';
import { FederationError } from '../../src/errors.ts';
import { LogKeeper, type Queryable } from '../../src/journal/head.ts';
import { openJournal } from '../../src/journal/reader.ts';
import { Sequencer } from '../../src/journal/sequencer.ts';
import type { Log } from '../../src/log.ts';
import type { CosignedSchema, LogHeadSchema } from '../protocol/generated/veilrisk_pb.js';
import type { IdentityKey } from '../protocol/identity.ts';
import { aggregatorLogName, aggregatorWitnessName } from '../protocol/logNames.ts';
import { type Roster, rosterHash } from '../protocol/roster.ts';
import { Cosignatures } from './cosignatures.ts';
import { keepRoundHead, ShownHeads } from './shownHeads.ts';
import { witnessSite } from './siteLogs.ts';
import { transaction } from './store/database.ts';

export type LogHeadInit = MessageInitShape<typeof LogHeadSchema>;
export type CosignedInit = MessageInitShape<typeof CosignedSchema>;

/** Names one attempt at one round. */
export interface RoundName {
  planId: string;
  round: number;
  attempt: number;
}

export interface AggregatorLog {
  readonly origin: string;
  readonly verifierKey: string;
  /**
   * Appends entries inside the caller's transaction: after every other lock (a plan's row) and slow work, because the
   * log's head stays locked until COMMIT. The head that a draft of type "round.opened" (details planId, round, attempt)
   * leaves is kept: all sites are shown that very head with the round's task, so that they agree on it.
   */
  append(client: Pick<pg.ClientBase, 'query'>, drafts: readonly EntryDraft[]): Promise<void>;
  /** To be called after COMMIT. */
  committed(): void;
  /**
   * A site opened its task stream, and knows the log up to `size` (Listen.log_size; 0 for not at all). @param stream any
   * object that stands for it: where a site has several, one must not be shown what goes on from another.
   */
  listening(site: string, size: number, stream?: object): void;
  /**
   * Task.log for a site, to be taken immediately before the task is sent: with `round` (a RoundTask) the head of that
   * round's opening, else the newest. With the proof from what the site knows.
   */
  headFor(site: string, round?: RoundName, stream?: object): Promise<LogHeadInit>;
  /**
   * A site's cosignature line, from an Update (with its round) or Acknowledge; empty lines are fine. The
   * newest is stored, a little later, when it verifies for a head that was shown; otherwise that is logged, and never a
   * reason to refuse the message.
   */
  cosigned(site: string, line: string, round?: RoundName): Promise<void>;
  /** kind "checkpoint" of a site's own log: cosigns it when it continues what was cosigned before. */
  addCheckpoint(site: string, head: LogHeadInit, verifierKey: string): Promise<CosignedInit>;
  /** Makes durable what `cosigned` has left. */
  close(): Promise<void>;
}

const ROUND_OPENED = 'round.opened';
const ROSTER = 'roster';

export interface LogOptions {
  pool: pg.Pool;
  identity: IdentityKey;
  roster: Roster;
  log: Log;
}

/**
 * Opens the log, starts it where there is none, and enters the roster when it is another than the last one.
 * @throws AuditError AUDIT_LOG_TAMPERED, AUDIT_SIGNATURE_INVALID for a log that this key did not sign.
 */
export async function openAggregatorLog({ pool, identity, roster, log }: LogOptions): Promise<AggregatorLog> {
  const origin = aggregatorLogName(roster);
  const publicKey = Buffer.from(identity.publicKey, 'base64');
  const verifierKey = encodeVerifierKey(origin, publicKey);
  const sign = async (bytes: Uint8Array) => identity.sign(bytes);
  const keeper = new LogKeeper({ origin, verifierKey, sign });
  await openJournal(pool, keeper);
  await enterRoster(pool, keeper, roster);
  const witness = { verifierKey: encodeWitnessKey(aggregatorWitnessName(roster), publicKey), sign };
  return new Journal({ pool, keeper, roster, log, witness });
}

interface Parts {
  pool: pg.Pool;
  keeper: LogKeeper;
  roster: Roster;
  log: Log;
  witness: Witness;
}

class Journal implements AggregatorLog {
  readonly origin: string;
  readonly verifierKey: string;
  readonly #parts: Parts;
  readonly #heads: ShownHeads;
  readonly #cosignatures: Cosignatures;

  constructor(parts: Parts) {
    this.#parts = parts;
    ({ origin: this.origin, verifierKey: this.verifierKey } = parts.keeper.signer);
    this.#heads = new ShownHeads(parts.pool, parts.keeper, parts.log);
    this.#cosignatures = new Cosignatures(parts.pool, parts.roster, parts.log);
  }

  async append(client: Queryable, drafts: readonly EntryDraft[]): Promise<void> {
    const note = await appendEntries(client, this.#parts.keeper, drafts);
    for (const { type, details } of drafts) {
      if (type === ROUND_OPENED && note !== null) await keepRoundHead(client, roundOf(details), note);
    }
  }

  committed(): void {
    // Heads are read from the database, where another process's are too; nothing is kept that a commit changes.
  }

  listening(site: string, size: number, stream?: object): void {
    this.#heads.listening(site, size, stream);
  }

  async headFor(site: string, round?: RoundName, stream?: object): Promise<LogHeadInit> {
    return this.#heads.headFor(site, round, () => this.#cosignatures.sizeOf(site), stream);
  }

  async cosigned(site: string, line: string, round?: RoundName): Promise<void> {
    if (line === '') return;
    this.#cosignatures.add(site, line, await this.#heads.shownTo(site, round));
  }

  addCheckpoint(site: string, head: LogHeadInit, verifierKey: string): Promise<CosignedInit> {
    return witnessSite(this.#parts, site, head, verifierKey, (client, draft) => this.append(client, [draft]));
  }

  close(): Promise<void> {
    return this.#cosignatures.flush();
  }
}

async function appendEntries(
  client: Queryable,
  keeper: LogKeeper,
  drafts: readonly EntryDraft[],
): Promise<string | null> {
  const sequencer = new Sequencer(client, keeper);
  const time = new Date();
  await sequencer.append(drafts.map((draft) => entryBytes(draft, time)));
  return sequencer.finish();
}

/** Under the log's lock, so that processes that start together enter a roster once. */
async function enterRoster(pool: pg.Pool, keeper: LogKeeper, roster: Roster): Promise<void> {
  const hash = rosterHash(roster);
  await transaction(pool, async (client) => {
    const sequencer = new Sequencer(client, keeper);
    await sequencer.lock();
    const { rows } = await client.query<{ bytes: Buffer }>(
      `SELECT bytes FROM audit_entries WHERE position('"type":"roster"'::bytea IN bytes) > 0 ORDER BY index DESC`,
    );
    for (const { bytes } of rows) {
      // Safe: any JSON value but null has members or none; those used are compared.
      const entry = JSON.parse(bytes.toString('utf8')) as { type?: unknown; details?: { rosterHash?: unknown } } | null;
      // The bytes of the type may stand inside the details of another entry.
      if (entry?.type !== ROSTER) continue;
      if (entry.details?.rosterHash === hash) return;
      break;
    }
    const { consortium, version, minimumQuorum, sites } = roster;
    const details = { rosterHash: hash, consortium, version, minimumQuorum, sites: sites.map(({ id }) => id) };
    const entry = { type: ROSTER, actor: 'operator', outcome: 'ok', details };
    await sequencer.append([entryBytes(entry, new Date())]);
    await sequencer.finish();
  });
}

function roundOf({ planId, round, attempt }: EntryDraft['details']): RoundName {
  if (typeof planId === 'string' && typeof round === 'number' && typeof attempt === 'number') {
    return { planId, round, attempt };
  }
  throw new FederationError('ROUND_MISMATCH', 'The opening of a round must name plan, round and attempt.');
}
