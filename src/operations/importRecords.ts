/**
 * Imports a CSV file into a data set: one database transaction holds the records, the note that the file was read and
 * the audit entry, so a killed process or a bad file leaves nothing.
 *
 * A file is known by the SHA-256 of its content after decompression; reading it a second time into a data set changes
 * nothing. Limits: the same customers in two data sets are charged to two budgets; keep one data set per purpose. Under
 * a contract without a customer key, that two files hold different customers is the operator's word (`disjoint`).
 */
import { open } from 'node:fs/promises';
import { finished } from 'node:stream/promises';
import type { Contract } from '../contract/contract.ts';
import { ContractError } from '../errors.ts';
import type { DatasetRow } from '../store/datasets.ts';
import type { StoreTransaction } from '../store/nodeStore.ts';
import type { NewRecord } from '../store/records.ts';
import type { NodeContext } from './context.ts';
import type { ContractFile } from './contracts.ts';
import { committed, opening } from './openings.ts';
import { fingerprintFile, type Progress, type RejectedRow, readRows } from './readRows.ts';
import { subjectTags } from './subjectTag.ts';

export interface ImportReport {
  dataset: string;
  contract: { name: string; hash: string; synthetic: boolean };
  /** SHA-256 (hex) of the file's content after decompression. */
  fileSha256: string;
  /** True when this file had been imported into the data set before; the counts are then those of that import. */
  alreadyImported: boolean;
  /** Rows of the file, header left out. */
  read: number;
  accepted: number;
  rejected: number;
  /** Cells that were outside their bounds and clamped. */
  clamped: number;
  /** The same by field, fields without any left out; empty for a file that was imported before. */
  clampedByField: Record<string, number>;
  /** Accepted rows with the positive label; null for a file that was imported before. */
  positive: number | null;
  /** Position of the audit entry; null for a file that was imported before. */
  auditIndex: number | null;
  /** The first rejected rows, at most REJECTS_SHOWN. */
  firstRejects: RejectedRow[];
}

export interface ImportRequest {
  contractFile: ContractFile;
  /** The CSV file, plain or gzip. */
  path: string;
  /** Data set to add to; created when new. Default: the contract's name. */
  dataset?: string;
  /**
   * The statement that no customer of this file is in another file of the data set. Needed for a second file when the
   * contract names no customer key: records are then told apart by file and line, and a customer in two files would
   * count twice while the ledger charges for one.
   */
  disjoint?: boolean;
  /** File that gets one JSON line per rejected row: line, field and rule, no cell. */
  rejectsPath?: string;
  onProgress?: Progress;
}

export const REJECTS_SHOWN = 20;

// An import of a hundred million rows still ends; the transaction holds no lock that scoring needs.
const TRANSACTION_MS = 12 * 3_600_000;

/**
 * Imports a file, all of it or nothing.
 *
 * Fails as `recordsOf` does, with CONTRACT_HASH_MISMATCH when the data set was made with another contract, and with
 * FILE_OVERLAP for a further file under a contract without a customer key, unless it is said to be `disjoint`.
 */
export async function importRecords(
  context: Pick<NodeContext, 'store' | 'subjectKey' | 'budget' | 'random'>,
  request: ImportRequest,
): Promise<ImportReport> {
  const { contractFile, path } = request;
  const { contract, hash } = contractFile;
  const name = request.dataset ?? contract.name;
  const { sha256: fileSha256 } = await fingerprintFile(path);
  const common = { dataset: name, contract: { name: contract.name, hash, synthetic: contract.synthetic }, fileSha256 };
  const rejects = await openRejects(request.rejectsPath);
  try {
    const report = await context.store.transaction(
      async (tx): Promise<ImportReport> => {
        const { dataset, isNew } = await openDataset(tx, name, contractFile);
        const known = await tx.datasets.findImport(dataset.id, fileSha256);
        if (known !== null) {
          return {
            ...common,
            alreadyImported: true,
            ...{ read: known.rowsRead, accepted: known.rowsKept, rejected: known.rowsBad, clamped: known.clamped },
            ...{ clampedByField: {}, positive: null, auditIndex: null, firstRejects: [] },
          };
        }
        const needsStatement = contract.subject === null && (await tx.datasets.imports(dataset.id)).length > 0;
        if (needsStatement && !request.disjoint) throw overlap(name);
        const started = await tx.datasets.startImport(dataset.id, fileSha256);
        const tally = emptyTally(contract);
        const { subjectKey } = context;
        const { onProgress } = request;
        const records = recordsOf(contract, path, {
          ...{ subjectKey, fileSha256, tally, onReject: rejects.write },
          ...(onProgress !== undefined && { onProgress }),
        });
        await tx.copyRecords({ datasetId: dataset.id, importId: started.id }, records);
        const { accepted, rejected, clamped } = tally;
        const counts = { rowsRead: accepted + rejected, rowsKept: accepted, rowsBad: rejected, clamped };
        await tx.datasets.finishImport(started.id, counts);
        // Last: the log's lock is held from here to the commit.
        if (isNew) {
          const { epsilon, delta } = context.budget;
          await tx.ledger.setBudget(dataset.id, context.budget);
          await tx.append({
            type: 'dataset.create',
            actor: 'node',
            outcome: 'ok',
            details: { dataset: name, contractHash: hash, budget: { epsilon, delta } },
          });
        }
        // Exact counts and the file's hash are functions of private data without noise, and the log is shown to others.
        const openings = { counts: opening(context.random, counts), file: opening(context.random, { fileSha256 }) };
        const { index } = await tx.append({
          type: 'dataset.import',
          actor: 'node',
          outcome: 'ok',
          // What the operator vouched for, since nothing here can check it.
          details: { dataset: name, contractHash: hash, ...(needsStatement && { disjoint: true }) },
          commitments: { counts: committed(openings.counts), file: committed(openings.file) },
        });
        const personal = Object.entries(openings).map(([name, each]) => ({ name, ...each, subject: null }));
        await tx.personal.put(index, personal);
        return {
          ...common,
          alreadyImported: false,
          ...{ read: accepted + rejected, accepted, rejected, clamped },
          clampedByField: byField(contract, tally),
          positive: tally.positive,
          auditIndex: index,
          firstRejects: tally.firstRejects,
        };
      },
      { timeoutMs: TRANSACTION_MS },
    );
    return report;
  } finally {
    await rejects.close();
  }
}

async function openDataset(
  tx: StoreTransaction,
  name: string,
  { contract, hash }: ContractFile,
): Promise<{ dataset: DatasetRow; isNew: boolean }> {
  const found = await tx.datasets.find(name);
  if (found === null) {
    const { id } = await tx.datasets.create({ name, contractHash: hash, contract });
    return { dataset: await tx.datasets.lock(id), isNew: true };
  }
  if (found.contractHash !== hash) {
    throw new ContractError('CONTRACT_HASH_MISMATCH', 'The data set was made with another contract', {
      where: `data set ${name}`,
      fix: `Use the contract with the hash ${found.contractHash}, or another --dataset.`,
    });
  }
  return { dataset: await tx.datasets.lock(found.id), isNew: false };
}

function overlap(name: string): ContractError {
  return new ContractError(
    'FILE_OVERLAP',
    'The contract names no customer key, and the data set holds another file whose customers may be the same',
    {
      where: `data set ${name}`,
      fix:
        'Give --disjoint if the files hold different customers. Otherwise name the customer key as "subject" of the ' +
        'contract, or import one file with all records into a new data set instead of this one.',
    },
  );
}

interface Rejects {
  write(row: RejectedRow): void;
  close(): Promise<void>;
}

/** JSON lines `{line, issues: [{field, rule}]}`; no cell is written. Opened before the import, so that it can fail. */
async function openRejects(path: string | undefined): Promise<Rejects> {
  if (path === undefined) return { write() {}, close: async () => {} };
  const unwritable = (cause: unknown) =>
    new ContractError('FILE_UNREADABLE', 'The rejected rows cannot be written', {
      where: path,
      fix: 'Check that the folder exists, may be written by this user and has room.',
      cause,
    });
  const handle = await open(path, 'w').catch((cause: unknown) => {
    throw unwritable(cause);
  });
  const stream = handle.createWriteStream();
  const failure = finished(stream).then(
    () => null,
    (cause: unknown) => unwritable(cause),
  );
  return {
    write: (row) => void stream.write(`${JSON.stringify({ line: row.line, issues: row.issues })}\n`),
    async close() {
      stream.end();
      const failed = await failure;
      if (failed !== null) throw failed;
    },
  };
}

function byField(contract: Contract, tally: Tally): Record<string, number> {
  const entries = contract.fields.map((field, k) => [field.name, tally.clampedByField[k]] as const);
  return Object.fromEntries(entries.filter(([, cells]) => cells > 0));
}

/** What is counted while records stream by. */
export interface Tally {
  accepted: number;
  rejected: number;
  positive: number;
  clamped: number;
  clampedByField: number[];
  firstRejects: RejectedRow[];
}

/**
 * Streams the records of a file and keeps the tally.
 *
 * Fails as `readRows` does; with FILE_REJECTED when no row or less than half of the rows fit the contract; with
 * FILE_UNREADABLE when the content is not the one that was fingerprinted.
 */
export async function* recordsOf(
  contract: Contract,
  path: string,
  options: {
    subjectKey: Uint8Array;
    fileSha256: string;
    tally: Tally;
    onProgress?: Progress;
    onReject?: (row: RejectedRow) => void;
  },
): AsyncGenerator<NewRecord, void, undefined> {
  const { subjectKey, fileSha256, tally, onReject } = options;
  const tags = subjectTags(subjectKey);
  let content = '';
  const rows = readRows(contract, path, options.onProgress, {
    onClamped: (field) => tally.clampedByField[field]++,
    onContent: (sha256) => {
      content = sha256;
    },
  });
  for await (const row of rows) {
    if ('issues' in row) {
      tally.rejected++;
      if (tally.firstRejects.length < REJECTS_SHOWN) tally.firstRejects.push(row);
      onReject?.(row);
      continue;
    }
    tally.accepted++;
    tally.positive += row.label ?? 0;
    tally.clamped += row.clamped;
    yield {
      subject: row.subject === null ? tags.ofRecord(fileSha256, row.line) : tags.ofCustomer(row.subject),
      label: row.label,
      time: row.time,
      bins: row.bins,
    };
  }
  if (content !== fileSha256) {
    throw new ContractError('FILE_UNREADABLE', 'The file changed while it was read', {
      where: path,
      fix: 'Import it again when nothing writes to it.',
    });
  }
  if (tally.accepted === 0 || tally.rejected > tally.accepted) throw mostlyRejected(path, tally);
}

export function emptyTally(contract: Contract): Tally {
  return {
    accepted: 0,
    rejected: 0,
    positive: 0,
    clamped: 0,
    clampedByField: contract.fields.map(() => 0),
    firstRejects: [],
  };
}

function mostlyRejected(path: string, tally: Tally): ContractError {
  const read = tally.accepted + tally.rejected;
  const issues = tally.firstRejects.flatMap(({ line, issues }) =>
    issues.map(({ field, rule }) => ({ field: `line ${line}, ${field}`, rule })),
  );
  return new ContractError(
    'FILE_REJECTED',
    read === 0
      ? 'The file has no rows'
      : `${tally.rejected} of ${read} rows do not fit the contract; nothing was imported`,
    { where: path, fix: 'Check that this is the right contract for the file.', issues },
  );
}
