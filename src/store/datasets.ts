/** Data sets and the files read into them. The records themselves: records.ts. */
import { StoreError } from '../errors.ts';
import { asBytes, type Db, fromJsonBytes, jsonBytes, type Session } from './session.ts';

export interface DatasetRow {
  id: number;
  name: string;
  contractHash: string;
  /** JSON of the contract, as stored. */
  contract: unknown;
  /** Records held. */
  records: number;
  createdAt: Date;
}

export interface ImportRow {
  id: number;
  datasetId: number;
  /** Hex hash of the file's bytes. */
  fileSha256: string;
  rowsRead: number;
  rowsKept: number;
  rowsBad: number;
  clamped: number;
  createdAt: Date;
}

export function readDatasets(db: Db) {
  return {
    async find(name: string): Promise<DatasetRow | null> {
      const row = await db.dataset.findUnique({ where: { name } });
      return row === null ? null : toDataset(row);
    },
    async byId(id: number): Promise<DatasetRow | null> {
      const row = await db.dataset.findUnique({ where: { id } });
      return row === null ? null : toDataset(row);
    },
    /** Oldest first. */
    async list(): Promise<DatasetRow[]> {
      return (await db.dataset.findMany({ orderBy: { id: 'asc' } })).map(toDataset);
    },
    /**
     * The oldest data set under a contract, or null. Not the largest: one customer could then decide which of two is
     * trained on, a dependence on data that no noise covers.
     */
    async forContract(contractHash: string): Promise<DatasetRow | null> {
      const row = await db.dataset.findFirst({
        where: { contractHash },
        orderBy: { id: 'asc' },
      });
      return row === null ? null : toDataset(row);
    },
    findImport(datasetId: number, fileSha256: string): Promise<ImportRow | null> {
      return db.import.findUnique({ where: { datasetId_fileSha256: { datasetId, fileSha256 } } });
    },
    imports(datasetId: number): Promise<ImportRow[]> {
      return db.import.findMany({ where: { datasetId }, orderBy: { id: 'asc' } });
    },
  };
}

export function writeDatasets({ db, client }: Session) {
  return {
    ...readDatasets(db),
    /** @throws StoreError ALREADY_EXISTS when the name is taken. */
    async create(dataset: { name: string; contractHash: string; contract: unknown }): Promise<DatasetRow> {
      const { name, contractHash, contract } = dataset;
      return toDataset(await db.dataset.create({ data: { name, contractHash, contractJson: jsonBytes(contract) } }));
    },
    /** Holds the data set until the transaction ends: one import at a time. @throws StoreError NOT_FOUND. */
    async lock(id: number): Promise<DatasetRow> {
      await client.query('SELECT id FROM datasets WHERE id = $1 FOR UPDATE', [id]);
      const row = await db.dataset.findUnique({ where: { id } });
      if (row === null) throw new StoreError('NOT_FOUND', 'There is no such data set.', { where: `data set ${id}` });
      return toDataset(row);
    },
    /**
     * Opens an import before its records are copied; `finishImport` sets its counts in the same transaction.
     * @throws StoreError ALREADY_EXISTS when the file was read before.
     */
    startImport(datasetId: number, fileSha256: string): Promise<ImportRow> {
      const none = { rowsRead: 0, rowsKept: 0, rowsBad: 0, clamped: 0 };
      return db.import.create({ data: { datasetId, fileSha256, ...none } });
    },
    finishImport(
      id: number,
      counts: Pick<ImportRow, 'rowsRead' | 'rowsKept' | 'rowsBad' | 'clamped'>,
    ): Promise<ImportRow> {
      return db.import.update({ where: { id }, data: counts });
    },
  };
}

export type DatasetReader = ReturnType<typeof readDatasets>;
export type DatasetWriter = ReturnType<typeof writeDatasets>;

function toDataset(row: {
  id: number;
  name: string;
  contractHash: string;
  contractJson: Uint8Array;
  records: number;
  createdAt: Date;
}): DatasetRow {
  const { contractJson, ...rest } = row;
  return { ...rest, contract: fromJsonBytes(asBytes(contractJson)) };
}
