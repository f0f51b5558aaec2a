/**
 * A CSV row, read against the contract: the fast path of an import, called once per row for millions of rows.
 *
 * Everything that depends only on contract and header is computed once; a row allocates its result and nothing else.
 * Issues name fields and rules and repeat no cell.
 */
import { ContractError, type FieldIssue } from '../errors.ts';
import { fieldEdges, locate } from './bins.ts';
import type { Contract, InputField } from './contract.ts';
import { derivationsOf, deriveBins } from './interaction.ts';
import { fieldSize } from './layout.ts';
import { MAX_TEXT } from './schema.ts';

export interface ParsedRow {
  /** One bin per field, in contract order. */
  bins: Uint16Array;
  /** Null when the file has no label column. */
  label: 0 | 1 | null;
  /** The customer key as it stands in the file; null when the contract names none. */
  subject: string | null;
  time: Date | null;
  /** How many fields were outside their bounds in this row. */
  clamped: number;
}

export interface RowIssues {
  issues: FieldIssue[];
}

export interface RowParserOptions {
  /** Whether a file without the label column is refused (the default) or read with null labels. */
  labels?: 'required' | 'optional';
  /** Called with the index of each field that was clamped, when clamping is counted per field. */
  onClamped?: (field: number) => void;
}

// Results of a cell reader below zero; everything else is a bin.
const BAD_NUMBER = -1;
const BAD_BOOLEAN = -2;
const TOO_LONG = -3;
const CLAMPED = 0x1_0000;

const RULES: Record<number, string> = {
  [BAD_NUMBER]: 'must be a finite decimal number',
  [BAD_BOOLEAN]: 'must be one of 0, 1, true, false, yes, no',
  [TOO_LONG]: `must have at most ${MAX_TEXT} characters`,
};

const TRUE = new Set(['1', 'true', 'yes']);
const FALSE = new Set(['0', 'false', 'no']);

/**
 * Prepares a parser for files whose first line is `header` (null: the columns the contract lists).
 *
 * Fails with FILE_HEADER_MISMATCH when a needed column is absent or doubled, or a column has the name of an
 * interaction, which is derived. Extra columns are ignored. `line` is the number of the row's line, from 1; it becomes
 * no part of the result and only keeps calls and reports together.
 */
export function createRowParser(
  contract: Contract,
  header: readonly string[] | null,
  options: RowParserOptions = {},
): (cells: readonly string[], line: number) => ParsedRow | RowIssues {
  const columns = header ?? contract.csv.columns ?? null;
  if (columns === null) throw mismatch([{ field: '(header)', rule: 'is missing' }]);
  const { trim } = contract.csv;
  const at = columnFinder(trim ? columns.map((column) => column.trim()) : columns, options);
  const inputs = contract.fields.flatMap((field, k) => (field.kind === 'interaction' ? [] : [{ field, k }]));
  const derivations = derivationsOf(contract);
  const inputColumns = Int32Array.from(inputs, ({ field }) => at(field.name, false));
  for (const derivation of derivations) at.refuse(contract.fields[derivation.at].name);
  const labelColumn = at(contract.label.name, options.labels === 'optional');
  const subjectColumn = contract.subject === null ? -1 : at(contract.subject, false);
  const timeColumn = contract.time === null ? -1 : at(contract.time, false);
  at.check();

  const width = columns.length;
  const count = contract.fields.length;
  const missing = new Set(['', ...contract.csv.missing]);
  const places = Int32Array.from(inputs, ({ k }) => k);
  const missingBins = inputs.map(({ field }) => fieldSize(field) - 1);
  const readers = inputs.map(({ field }) => cellReader(field));
  const labels = new Map<string, 0 | 1>();
  for (const value of contract.label.negative) labels.set(value, 0);
  for (const value of contract.label.positive) labels.set(value, 1);
  const { onClamped } = options;

  return (cells) => {
    if (cells.length !== width) return { issues: [{ field: '(row)', rule: `must have ${width} cells` }] };
    let issues: FieldIssue[] | null = null;
    const bins = new Uint16Array(count);
    let clamped = 0;
    for (let i = 0; i < places.length; i++) {
      const k = places[i];
      const raw = cells[inputColumns[i]];
      const cell = trim ? raw.trim() : raw;
      if (missing.has(cell)) {
        bins[k] = missingBins[i];
        continue;
      }
      const bin = readers[i](cell);
      if (bin < 0) {
        issues ??= [];
        issues.push({ field: contract.fields[k].name, rule: RULES[bin] });
      } else if (bin >= CLAMPED) {
        clamped++;
        onClamped?.(k);
        bins[k] = bin - CLAMPED;
      } else {
        bins[k] = bin;
      }
    }
    deriveBins(derivations, bins);

    let label: 0 | 1 | null = null;
    if (labelColumn >= 0) {
      const found = labels.get(trim ? cells[labelColumn].trim() : cells[labelColumn]);
      if (found === undefined) {
        issues ??= [];
        issues.push({ field: contract.label.name, rule: 'must be one of the label values of the contract' });
      } else {
        label = found;
      }
    }

    let subject: string | null = null;
    if (subjectColumn >= 0) {
      subject = trim ? cells[subjectColumn].trim() : cells[subjectColumn];
      if (missing.has(subject) || subject.length > MAX_TEXT) {
        issues ??= [];
        // Safe: a subject column was found by that name.
        issues.push({ field: contract.subject!, rule: `must be a customer key of 1 to ${MAX_TEXT} characters` });
      }
    }

    let time: Date | null = null;
    if (timeColumn >= 0) {
      const cell = trim ? cells[timeColumn].trim() : cells[timeColumn];
      time = missing.has(cell) ? null : parseTime(cell);
      if (time === null && !missing.has(cell)) {
        issues ??= [];
        // Safe: a time column was found by that name.
        issues.push({ field: contract.time!, rule: 'must be an RFC 3339 date-time with a time zone' });
      }
    }
    return issues === null ? { bins, label, subject, time, clamped } : { issues };
  };
}

function cellReader(field: InputField): (cell: string) => number {
  if (field.kind === 'boolean') {
    return (cell) => {
      const lower = cell.toLowerCase();
      return TRUE.has(lower) ? 1 : FALSE.has(lower) ? 0 : BAD_BOOLEAN;
    };
  }
  if (field.kind === 'categorical') {
    const bins = new Map(field.categories.map((category, at) => [category, at]));
    const other = field.categories.length;
    return (cell) => bins.get(cell) ?? (cell.length > MAX_TEXT ? TOO_LONG : other);
  }
  const edges = Float64Array.from(fieldEdges(field));
  const { min, max } = field;
  return (cell) => {
    const value = parseDecimal(cell);
    if (Number.isNaN(value)) return BAD_NUMBER;
    const bin = locate(edges, value);
    return value < min || value > max ? bin + CLAMPED : bin;
  };
}

/** A finite decimal number such as -12, 3.5, .5 or 1e-3; NaN for anything else, `0x10`, `Infinity` and '' included. */
export function parseDecimal(cell: string): number {
  const first = cell.charCodeAt(0);
  const last = cell.charCodeAt(cell.length - 1);
  // Number() would also take hexadecimal, surrounding white space and the word Infinity.
  const starts = (first >= 48 && first <= 57) || first === 45 || first === 46 || first === 43;
  if (!starts || !((last >= 48 && last <= 57) || last === 46)) return Number.NaN;
  if (first === 48 && cell.length > 2) {
    const second = cell.charCodeAt(1) | 32;
    if (second === 120 || second === 98 || second === 111) return Number.NaN;
  }
  const value = Number(cell);
  return Number.isFinite(value) ? value : Number.NaN;
}

const RFC3339 = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)$/;

/** RFC 3339 section 5.6 `date-time`; null for anything else. Leap seconds are refused. */
export function parseTime(cell: string): Date | null {
  if (!RFC3339.test(cell)) return null;
  const time = new Date(cell.toUpperCase());
  if (Number.isNaN(time.getTime())) return null;
  // Date rolls 30 February over into March; the day of the month must survive in the time's own zone.
  const days = new Date(Date.UTC(Number(cell.slice(0, 4)), Number(cell.slice(5, 7)), 0)).getUTCDate();
  return Number(cell.slice(8, 10)) <= days ? time : null;
}

interface ColumnFinder {
  (name: string, optional: boolean): number;
  /** Notes an issue when there is a column of that name. */
  refuse(name: string): void;
  check(): void;
}

function columnFinder(columns: readonly string[], options: RowParserOptions): ColumnFinder {
  const issues: FieldIssue[] = [];
  const find = (name: string, optional: boolean): number => {
    const first = columns.indexOf(name);
    if (first < 0 && !optional) issues.push({ field: name, rule: 'column is absent' });
    if (first >= 0 && columns.indexOf(name, first + 1) >= 0) issues.push({ field: name, rule: 'column is doubled' });
    return first;
  };
  return Object.assign(find, {
    refuse(name: string) {
      if (columns.includes(name)) issues.push({ field: name, rule: 'is derived and must not be a column' });
    },
    check() {
      if (issues.length > 0) throw mismatch(issues, options);
    },
  });
}

function mismatch(issues: FieldIssue[], options: RowParserOptions = {}): ContractError {
  const names = issues.slice(0, 5).map((issue) => `${issue.field} ${issue.rule}`);
  const more = issues.length > 5 ? ` and ${issues.length - 5} more` : '';
  return new ContractError(
    'FILE_HEADER_MISMATCH',
    `The columns do not match the contract: ${names.join(', ')}${more}`,
    {
      where: issues[0].field,
      fix: `Give a file with the columns of the contract${options.labels === 'optional' ? '' : ', its label included'}.`,
      issues,
    },
  );
}
