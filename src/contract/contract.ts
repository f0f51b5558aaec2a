/**
 * The feature contract: the public agreement on what a record looks like, how it becomes bins, and what is learned.
 *
 * Format and meaning are specified in FORMAT.md beside this file; identity is SHA-256 over the RFC 8785 canonical form
 * of the normalised contract. Bounds, bins and vocabularies come from this document and never from data: a bin edge
 * or a category learnt from records would be a release that nobody accounted for.
 *
 * Limit: a contract says how to read a record, not that the record is true.
 */
import { canonicalHash } from '../canonical.ts';
import { ContractError, type FieldIssue } from '../errors.ts';
import { partNamed, valueBins } from './interaction.ts';
import { ruleIssues } from './rules.ts';
import { type ContractDocument, contractSchema, DEFAULT_BINS } from './schema.ts';

export { binTitle, fieldEdges } from './bins.ts';
export { type Layout, layoutOf } from './layout.ts';
export { binRecord } from './record.ts';
export { createRowParser, type ParsedRow, type RowIssues } from './row.ts';

/** What a consumer or an officer is told when the field moved the score. `code` is stable, `text` is plain English. */
export interface Reason {
  code: string;
  text: string;
}

export interface NumericField {
  kind: 'numeric';
  name: string;
  /** Public bounds, inclusive. Values outside are clamped to the nearest bound and counted. */
  min: number;
  max: number;
  /** Spacing of equal-width bins: `linear` on x, `log1p` on log1p(x + max(0, -min)). */
  scale: 'linear' | 'log1p';
  /** Number of equal-width bins; present exactly when `edges` is absent. */
  bins?: number;
  /** Inner cut points, ascending, strictly between the bounds: n edges make n + 1 bins. */
  edges?: number[];
  /** Known direction of the label's probability in this field; a hint for learning, not a filter. */
  monotone?: 'increasing' | 'decreasing';
  reason: Reason;
}

export interface CategoricalField {
  kind: 'categorical';
  name: string;
  /** The public vocabulary, in bin order, compared exactly. */
  categories: string[];
  reason: Reason;
}

export interface BooleanField {
  kind: 'boolean';
  name: string;
  reason: Reason;
}

/** The pair of two other fields as one more field: read from no column, derived from their bins (interaction.ts). */
export interface InteractionField {
  kind: 'interaction';
  name: string;
  /** Names of two different fields that have a column. */
  of: [string, string];
  /** Groups of each part's value bins; of a categorical or boolean part, all its bins but `missing`. */
  bins: [number, number];
  reason: Reason;
}

/** A field that is read from a column or a member of a record. */
export type InputField = NumericField | CategoricalField | BooleanField;

export type Field = InputField | InteractionField;

/** How a CSV file of this contract is written. */
export interface CsvFormat {
  header: boolean;
  /** Column names in file order; required when the file has no header line. */
  columns?: string[];
  delimiter: string;
  /** A line starting with this character is skipped. */
  comment: string | null;
  /** Whether white space around a cell is removed. */
  trim: boolean;
  /** Cells that mean "missing"; the empty cell always does. */
  missing: string[];
}

/** A parsed and normalised contract: every default is written out. */
export interface Contract {
  format: 'veilrisk-contract/1';
  name: string;
  version: number;
  title: string;
  description?: string;
  /** True when records of this contract are made up; every output says so. */
  synthetic: boolean;
  fields: Field[];
  label: { name: string; positive: string[]; negative: string[]; title?: string };
  /** Column of the customer key, or null: each record is then its own customer. */
  subject: string | null;
  /** Column of the record's RFC 3339 time, or null. */
  time: string | null;
  /** The most records of one customer that training uses (the unit of privacy is the customer). */
  maxRecordsPerSubject: number;
  csv: CsvFormat;
}

/**
 * Reads a contract document from outside and writes its defaults out.
 *
 * Fails with CONTRACT_INVALID and one issue per rule broken.
 */
export function parseContract(json: unknown): Contract {
  const parsed = contractSchema.safeParse(json);
  if (!parsed.success) {
    const issues = parsed.error.issues.map((issue) => ({ field: pathOf(issue.path), rule: issue.message }));
    throw invalid(issues);
  }
  const contract = normalise(parsed.data);
  const issues = ruleIssues(contract);
  if (issues.length > 0) throw invalid(issues);
  return contract;
}

/** SHA-256 of the RFC 8785 form, 64 lower-case hexadecimal digits. Equal for documents that differ only in key order. */
export function contractHash(contract: Contract): string {
  return canonicalHash(contract);
}

function normalise(document: ContractDocument): Contract {
  const inputs = document.fields.map((field): Field | InteractionDocument => {
    if (field.kind !== 'numeric' || field.edges !== undefined || field.bins !== undefined) return defined(field);
    return defined({ ...field, bins: DEFAULT_BINS });
  });
  const read = inputs.filter((field): field is InputField => field.kind !== 'interaction');
  const fields = inputs.map((field): Field => (field.kind === 'interaction' ? withGroups(field, read) : field));
  return defined({ ...document, fields, label: defined(document.label), csv: defined(document.csv) });
}

type InteractionDocument = Extract<ContractDocument['fields'][number], { kind: 'interaction' }>;

/** Writes out the numbers of groups that were left open: every value bin of that part. */
function withGroups(field: InteractionDocument, read: readonly InputField[]): InteractionField {
  const groups = (side: 0 | 1): number => {
    const given = field.bins?.[side] ?? null;
    if (given !== null) return given;
    const part = partNamed(read, field.of[side]);
    // A part that does not exist has no bins; rules.ts refuses it.
    return part === undefined ? 0 : valueBins(part);
  };
  return { ...field, bins: [groups(0), groups(1)] };
}

type Defined<T> = { [K in keyof T]: Exclude<T[K], undefined> };

/** Drops keys whose value is undefined, which a JSON document cannot hold. */
function defined<T extends object>(value: T): Defined<T> {
  // Safe: exactly the undefined properties, which Defined<T> forbids, are removed.
  return Object.fromEntries(Object.entries(value).filter(([, held]) => held !== undefined)) as Defined<T>;
}

function pathOf(path: readonly PropertyKey[]): string {
  return path.length === 0 ? '(document)' : path.map(String).join('.');
}

function invalid(issues: FieldIssue[]): ContractError {
  const first = issues[0];
  const more = issues.length > 1 ? ` (and ${issues.length - 1} more)` : '';
  return new ContractError('CONTRACT_INVALID', `The contract is not valid: ${first.field}: ${first.rule}${more}`, {
    where: first.field,
    fix: 'Correct the contract document; src/contract/FORMAT.md describes every field.',
    issues,
  });
}
