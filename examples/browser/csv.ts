/**
 * The rows of a CSV file as transactions: the contract says which columns are fields and how the file is written.
 *
 * Columns that are no field (a label, a customer key) are left out and never leave the page. A cell that is not what
 * its field needs stays as it is, so that the SDK names the field and the rule.
 */
import { parse } from 'csv-parse/browser/esm/sync';
import type { Transaction } from '../../src/client/client.ts';
import type { Contract, InputField } from '../../src/contract/contract.ts';
import type { Failure } from './messages.ts';

const TRUE = ['1', 'true', 'yes'];
const FALSE = ['0', 'false', 'no'];

/** @throws Failure when the text is not CSV, or a column of the contract is not there */
export function readTable(contract: Contract, text: string): Transaction[] {
  const { delimiter, comment, trim } = contract.csv;
  let rows: string[][];
  try {
    rows = parse(text, {
      ...{ delimiter, trim, bom: true, skip_empty_lines: true, relax_column_count: true },
      ...(comment === null ? {} : { comment, comment_no_infix: true }),
    });
  } catch {
    throw failure('FILE_MALFORMED', `The file is not CSV with "${delimiter}" between its cells.`);
  }
  const columns = contract.csv.header ? rows.shift() : contract.csv.columns;
  const fields = inputFields(contract);
  const at = fields.map(({ name }) => columns?.indexOf(name) ?? -1);
  const absent = fields.filter((_, i) => at[i] < 0).map(({ name }) => name);
  if (absent.length > 0) throw failure('FILE_HEADER_MISMATCH', `The file has no column ${absent.join(', ')}.`);
  if (rows.length === 0) throw failure('FILE_EMPTY', 'The file has no rows.');
  return rows.map((cells) =>
    Object.fromEntries(fields.map((field, i) => [field.name, cellValue(contract, field, cells[at[i]] ?? '')])),
  );
}

/** The fields a caller sends; interactions are derived from them. */
export function inputFields(contract: Contract): InputField[] {
  return contract.fields.filter((field) => field.kind !== 'interaction');
}

/** Text as the value its field takes; text that is none stays text. */
export function cellValue(contract: Contract, field: InputField, text: string): string | number | boolean | null {
  if (text === '' || contract.csv.missing.includes(text)) return null;
  if (field.kind === 'categorical') return text;
  if (field.kind === 'boolean') return TRUE.includes(text) ? true : FALSE.includes(text) ? false : text;
  const value = Number(text);
  return text.trim() === '' || !Number.isFinite(value) ? text : value;
}

function failure(code: string, message: string): Failure {
  return { code, message, fix: 'Choose a file with the columns of the contract.', issues: [] };
}
