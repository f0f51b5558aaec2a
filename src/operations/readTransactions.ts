/**
 * A CSV file as the JSON transactions that a caller sends: one way for the command line and the demo.
 *
 * Cells are read by the rules of an import (missing texts, decimal numbers, words for true and false); the label, the
 * customer and the time stay in the file. Bounds and lengths are the contract's matter when the transaction is binned.
 */
import type { Transaction } from '../client/client.ts';
import type { Contract, InputField } from '../contract/contract.ts';
import { parseDecimal } from '../contract/row.ts';
import { ContractError, type FieldIssue } from '../errors.ts';
import { type ReadOptions, type RejectedRow, type RowReader, readFileRows } from './readRows.ts';

/** A row that could be read; `line` is the number of its (last) line, from 1. */
export interface TransactionRow {
  line: number;
  transaction: Transaction;
}

const TRUE = new Set(['1', 'true', 'yes']);
const FALSE = new Set(['0', 'false', 'no']);

/** Every row of the file in order. Fails with FILE_HEADER_MISMATCH, FILE_TRUNCATED or FILE_UNREADABLE. */
export function readTransactions(
  contract: Contract,
  path: string,
  options: ReadOptions = {},
): AsyncGenerator<TransactionRow | RejectedRow, void, undefined> {
  return readFileRows(contract, path, (header) => transactionReader(contract, header, path), options);
}

function transactionReader(
  contract: Contract,
  header: readonly string[] | null,
  path: string,
): RowReader<{ transaction: Transaction }> {
  const { trim } = contract.csv;
  const columns = (header ?? contract.csv.columns ?? []).map((column) => (trim ? column.trim() : column));
  const inputs = contract.fields.flatMap((field) => (field.kind === 'interaction' ? [] : [field]));
  checkColumns(contract, columns, inputs, path);
  const missing = new Set(['', ...contract.csv.missing]);
  const places = inputs.map((field) => ({ field, at: columns.indexOf(field.name) }));

  return (cells) => {
    if (cells.length !== columns.length) {
      return { issues: [{ field: '(row)', rule: `must have ${columns.length} cells` }] };
    }
    const issues: FieldIssue[] = [];
    const entries: [string, unknown][] = [];
    for (const { field, at } of places) {
      const cell = trim ? cells[at].trim() : cells[at];
      const value = missing.has(cell) ? null : cellValue(field, cell);
      if (value === undefined) issues.push({ field: field.name, rule: RULES[field.kind] });
      else entries.push([field.name, value]);
    }
    // Safe: own properties whatever the names are, "__proto__" included.
    return issues.length > 0 ? { issues } : { transaction: Object.fromEntries(entries) };
  };
}

const RULES: Record<InputField['kind'], string> = {
  numeric: 'must be a finite decimal number',
  boolean: 'must be one of 0, 1, true, false, yes, no',
  categorical: 'must be a string',
};

/** Undefined when the cell breaks the rule of its kind. */
function cellValue(field: InputField, cell: string): string | number | boolean | undefined {
  if (field.kind === 'categorical') return cell;
  if (field.kind === 'boolean') {
    const lower = cell.toLowerCase();
    return TRUE.has(lower) ? true : FALSE.has(lower) ? false : undefined;
  }
  const value = parseDecimal(cell);
  return Number.isNaN(value) ? undefined : value;
}

function checkColumns(
  contract: Contract,
  columns: readonly string[],
  inputs: readonly InputField[],
  path: string,
): void {
  const issues: FieldIssue[] = [];
  for (const { name } of inputs) {
    const first = columns.indexOf(name);
    if (first < 0) issues.push({ field: name, rule: 'column is absent' });
    else if (columns.indexOf(name, first + 1) >= 0) issues.push({ field: name, rule: 'column is doubled' });
  }
  for (const { kind, name } of contract.fields) {
    if (kind === 'interaction' && columns.includes(name)) {
      issues.push({ field: name, rule: 'is derived and must not be a column' });
    }
  }
  if (issues.length === 0) return;
  throw new ContractError('FILE_HEADER_MISMATCH', "The columns do not match the contract of the node's model", {
    where: path,
    fix: 'Give a file whose header names every field of the contract (GET /v1/models shows it); others are ignored.',
    issues,
  });
}
