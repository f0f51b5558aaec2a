/**
 * The node's store: opens the database, and is the only way to its tables.
 *
 * Reading is free; writing happens inside `transaction`, so that what is written and its audit entry commit together, or
 * through `decisions`, which does the same for many calls at once. The store composes nothing: which entry belongs to
 * which change, and when budget is spent, is decided by operations.
 */
import { join } from 'node:path';
import { type EntryDraft, entryBytes } from '../audit/entry.ts';
import type { LogSigner } from '../audit/note.ts';
import { openPool } from '../database/connection.ts';
import { mapped } from '../database/failures.ts';
import { applyMigrations } from '../database/migrations.ts';
import { LogKeeper } from '../journal/head.ts';
import { type JournalReader, openJournal, readJournal } from '../journal/reader.ts';
import { type AuditPosition, Sequencer } from '../journal/sequencer.ts';
import { type Anchor, AnchorKeeper } from './anchor.ts';
import { compareWithLog } from './crossCheck.ts';
import { type DatasetReader, type DatasetWriter, readDatasets, writeDatasets } from './datasets.ts';
import { DecisionRecorder } from './decisions.ts';
import {
  type ApiKeyReader,
  type ApiKeyWriter,
  type EncryptionKeyReader,
  type EncryptionKeyWriter,
  readApiKeys,
  readEncryptionKeys,
  writeApiKeys,
  writeEncryptionKeys,
} from './keys.ts';
import { type LedgerReader, type LedgerWriter, readLedger, writeLedger } from './ledger.ts';
import {
  type MeterReader,
  readMeters,
  readVectorLimits,
  type VectorLimitReader,
  type VectorLimitWriter,
  writeVectorLimits,
} from './meters.ts';
import { type ModelReader, type ModelWriter, readModels, writeModels } from './models.ts';
import { type PersonalReader, type PersonalWriter, readPersonal, writePersonal } from './personal.ts';
import {
  type IdentityWriter,
  type PlanReader,
  type PlanWriter,
  readPlans,
  writeIdentity,
  writePlans,
} from './plans.ts';
import { copyRecords, loadTrainingData, type NewRecord, type TrainingRows } from './records.ts';
import { type RevealReader, type RevealWriter, readReveals, writeReveals } from './reveals.ts';
import { Database, type TransactionOptions } from './session.ts';
import { readWitness, type WitnessStore, type WitnessWriter, writeWitness } from './witness.ts';

const NODE_MIGRATIONS = join(import.meta.dirname, '../../prisma/migrations/node');

/** One Postgres transaction. Its functions write rows; `append` records what they mean. */
export interface StoreTransaction {
  /**
   * Appends an audit entry, durable when the transaction commits. Takes the log's lock until then: append after slow
   * work and after any other lock. @throws AuditError AUDIT_ENTRY_INVALID.
   */
  append(draft: EntryDraft): Promise<AuditPosition>;
  datasets: DatasetWriter;
  /** Appends records to a locked data set, from memory bounded by one buffer; returns how many. */
  copyRecords(
    target: { datasetId: number; importId: number },
    records: AsyncIterable<NewRecord> | Iterable<NewRecord>,
  ): Promise<number>;
  ledger: LedgerWriter;
  plans: PlanWriter;
  reveals: RevealWriter;
  models: ModelWriter;
  apiKeys: ApiKeyWriter;
  encryptionKeys: EncryptionKeyWriter;
  vectorLimits: VectorLimitWriter;
  personal: PersonalWriter;
  identity: IdentityWriter;
  witness: WitnessWriter;
}

/** The node's log, and its ledger beside it. */
export interface AuditReader extends JournalReader {
  /** @throws PrivacyError LEDGER_MISMATCH unless ledger and log hold the same budgets and reservations. */
  ledgerAgreesWithLog(): Promise<void>;
}

export interface NodeStore {
  /**
   * Runs `work` in one transaction; it commits when `work` resolves, and nothing of it is written when it rejects.
   * @throws StoreError DATABASE_UNAVAILABLE, ALREADY_EXISTS, and whatever `work` throws.
   */
  transaction<T>(work: (tx: StoreTransaction) => Promise<T>, options?: TransactionOptions): Promise<T>;
  datasets: DatasetReader;
  /** Every labelled record of a data set whose contract has `fields` fields. */
  trainingData(datasetId: number, fields: number): Promise<TrainingRows>;
  ledger: LedgerReader;
  plans: PlanReader;
  reveals: RevealReader;
  models: ModelReader;
  apiKeys: ApiKeyReader;
  encryptionKeys: EncryptionKeyReader;
  /** What callers had scored; only `decisions` raises a meter. */
  meters: MeterReader;
  vectorLimits: VectorLimitReader;
  personal: PersonalReader;
  /** The hot path: decisions and single entries of concurrent calls share transactions. */
  decisions: DecisionRecorder;
  audit: AuditReader;
  /** Logs of others, and the witnesses of the own one. */
  witness: WitnessStore;
  /** True when the database answers. */
  ping(): Promise<boolean>;
  /** Waits for what was begun and closes every connection. */
  close(): Promise<void>;
}

/**
 * Applies pending migrations and opens the store.
 * @throws StoreError DATABASE_UNAVAILABLE, DATABASE_SCHEMA_NEWER; AuditError AUDIT_SIGNATURE_INVALID when the log was
 *   signed with another key, AUDIT_LOG_TAMPERED, also for a log older than the anchor; PrivacyError LEDGER_MISMATCH.
 */
export async function openNodeStore(options: {
  url: string;
  logSigner: LogSigner;
  /** Keeps the newest checkpoint outside the database; without one a database that was set back is not noticed. */
  anchor?: Anchor;
}): Promise<NodeStore> {
  const { url, logSigner } = options;
  await applyMigrations(url, NODE_MIGRATIONS);
  const pool = await openPool(url);
  const audit: AuditReader = {
    ...readJournal(pool, logSigner),
    ledgerAgreesWithLog: () => mapped(compareWithLog(pool)),
  };
  const keeper = new LogKeeper(logSigner);
  const anchor = options.anchor === undefined ? null : new AnchorKeeper(pool, keeper, options.anchor);
  try {
    await openJournal(pool, keeper);
    await anchor?.open();
    await audit.ledgerAgreesWithLog();
  } catch (error) {
    await pool.end();
    throw error;
  }
  const database = new Database(pool);
  const { prisma } = database;
  const decisions = new DecisionRecorder(pool, keeper, anchor);
  return {
    async transaction(work, limits) {
      let sequencer: Sequencer | undefined;
      const result = await database.transaction(async (session) => {
        const log = new Sequencer(session.client, keeper);
        sequencer = log;
        const result = await work({
          append: async (draft) => (await log.append([entryBytes(draft, new Date())]))[0],
          datasets: writeDatasets(session),
          copyRecords: (target, records) => copyRecords(session, target, records),
          ledger: writeLedger(session),
          plans: writePlans(session),
          reveals: writeReveals(session),
          models: writeModels(session),
          apiKeys: writeApiKeys(session),
          encryptionKeys: writeEncryptionKeys(session),
          vectorLimits: writeVectorLimits(session),
          personal: writePersonal(session),
          identity: writeIdentity(session),
          witness: writeWitness(session),
        });
        await log.finish();
        return result;
      }, limits);
      // Before the caller goes on: what it reserved is known outside the database too.
      if (sequencer?.committed()) await anchor?.write();
      return result;
    },
    datasets: readDatasets(prisma),
    trainingData: (datasetId, fields) => mapped(loadTrainingData(pool, datasetId, fields)),
    ledger: readLedger(prisma),
    plans: readPlans(prisma),
    reveals: readReveals(prisma),
    models: readModels(prisma),
    apiKeys: readApiKeys(prisma),
    encryptionKeys: readEncryptionKeys(prisma),
    meters: readMeters(pool),
    vectorLimits: readVectorLimits(prisma),
    personal: readPersonal(prisma),
    decisions,
    audit,
    witness: readWitness(pool),
    ping: () =>
      pool.query('SELECT 1').then(
        () => true,
        () => false,
      ),
    async close() {
      await decisions.drain();
      await anchor?.close();
      await database.close();
    },
  };
}
