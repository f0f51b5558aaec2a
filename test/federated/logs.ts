/** The logs of a consortium in tests: the aggregator's and those of its banks, each on a database of its own. */
import { type AggregatorLog, openAggregatorLog, type RoundName } from '../../federated/aggregator/log.ts';
import { type Database, openDatabase, transaction } from '../../federated/aggregator/store/database.ts';
import { IdentityKey } from '../../federated/protocol/identity.ts';
import { siteLogName } from '../../federated/protocol/logNames.ts';
import type { Roster } from '../../federated/protocol/roster.ts';
import type { EntryDraft } from '../../src/audit/entry.ts';
import { encodeVerifierKey, type LogSigner } from '../../src/audit/note.ts';
import { openLog } from '../../src/log.ts';
import { openWitness } from '../../src/operations/witness.ts';
import type { LogWitness } from '../../src/participant/port.ts';
import { type NodeStore, openNodeStore } from '../../src/store/nodeStore.ts';

export interface Members {
  roster: Roster;
  aggregator: IdentityKey;
  banks: { id: string; key: IdentityKey; logKey: IdentityKey }[];
}

export function makeMembers(count: number): Members {
  const aggregator = IdentityKey.create();
  const banks = Array.from({ length: count }, (_, index) => ({
    ...{ id: `bank-${index + 1}`, key: IdentityKey.create(), logKey: IdentityKey.create() },
  }));
  const roster = {
    ...{ consortium: 'Test + consortium', version: 1, minimumQuorum: 2 },
    aggregator: { name: 'aggregator', identityKey: aggregator.publicKey },
    sites: banks.map(({ id, key }) => ({ id, identityKey: key.publicKey })),
    // Safe: the logs read names and identity keys of a roster, and hash the whole.
  } as unknown as Roster;
  return { roster, aggregator, banks };
}

export interface OpenAggregatorLog {
  log: AggregatorLog;
  database: Database;
  /** Appends in a transaction of its own and commits. */
  enter(...drafts: EntryDraft[]): Promise<void>;
  close(): Promise<void>;
}

export async function openAggregator(
  url: string,
  { roster, aggregator: identity }: Members,
): Promise<OpenAggregatorLog> {
  const database = await openDatabase(url, identity.publicKey);
  const log = await openAggregatorLog({ pool: database.pool, identity, roster, log: openLog('test', 'silent') });
  return {
    ...{ log, database },
    async enter(...drafts) {
      await transaction(database.pool, (client) => log.append(client, drafts));
      log.committed();
    },
    async close() {
      await log.close();
      await database.close();
    },
  };
}

export const opening = (round: RoundName, stateHash = '0'.repeat(64)): EntryDraft => ({
  ...{ type: 'round.opened', actor: 'aggregator', outcome: 'ok' },
  details: { ...round, stateHash, members: ['bank-1', 'bank-2'] },
});

export const happened = (number: number): EntryDraft => ({
  ...{ type: 'test', actor: 'aggregator', outcome: 'ok' },
  details: { number },
});

export interface Bank {
  id: string;
  store: NodeStore;
  logs: LogWitness;
}

/** A bank's store and what it sees of the logs; `dataDir` is where evidence goes. */
export async function openBank(url: string, members: Members, index: number, dataDir?: string): Promise<Bank> {
  const { id, key: identity, logKey } = members.banks[index];
  const origin = siteLogName(id);
  const logSigner: LogSigner = {
    ...{ origin, verifierKey: encodeVerifierKey(origin, Buffer.from(logKey.publicKey, 'base64')) },
    sign: async (bytes) => logKey.sign(bytes),
  };
  const store = await openNodeStore({ url, logSigner });
  const context = { name: id, store, identity, clock: () => new Date(), log: openLog('test', 'silent') };
  return {
    id,
    store,
    logs: openWitness({ ...context, ...(dataDir === undefined ? {} : { dataDir }) }, members.roster),
  };
}
