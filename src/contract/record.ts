/**
 * A JSON record from outside, read strictly against the contract.
 *
 * Only own properties count, every key must be a field, every value must have the field's JSON type. Missing is null
 * or absence and nothing else: text in a numeric field is an issue, never a silent `missing`. An interaction is derived
 * and is no key. Issues name fields and rules and repeat no value.
 */
import { ContractError, type FieldIssue } from '../errors.ts';
import { fieldEdges, locate } from './bins.ts';
import type { Contract, InputField } from './contract.ts';
import { type Derivation, derivationsOf, deriveBins } from './interaction.ts';
import { missingBin } from './layout.ts';
import { MAX_TEXT } from './schema.ts';

/** One bin per field in contract order, and the names of the fields whose value was outside the bounds. */
export interface BinnedRecord {
  bins: Uint16Array;
  clamped: string[];
}

/** The bin of a value that is not missing, or the rule it breaks. */
type Reader = (value: unknown) => number | string;

interface CompiledField {
  name: string;
  /** Place among the fields of the contract. */
  at: number;
  missing: number;
  read: Reader;
  outside: (value: unknown) => boolean;
}

// Safe: filled with a pure function of an immutable contract, keyed by its identity.
const compiled = new WeakMap<Contract, CompiledContract>();

interface CompiledContract {
  fields: CompiledField[];
  names: Set<string>;
  derived: Set<string>;
  derivations: Derivation[];
}

/** Bins a record; fails with RECORD_INVALID and one issue per wrong or unknown field. */
export function binRecord(contract: Contract, record: Readonly<Record<string, unknown>>): BinnedRecord {
  if (typeof record !== 'object' || record === null || Array.isArray(record)) {
    throw refused([{ field: '(record)', rule: 'must be a JSON object' }]);
  }
  const { fields, names, derived, derivations } = compile(contract);
  const issues: FieldIssue[] = [];
  for (const key of Object.keys(record)) {
    if (names.has(key)) continue;
    const rule = derived.has(key)
      ? 'is derived from other fields and must not be sent'
      : 'is not a field of the contract';
    issues.push({ field: showName(key), rule });
    if (issues.length === 20) throw refused(issues);
  }
  const bins = new Uint16Array(contract.fields.length);
  const clamped: string[] = [];
  for (const field of fields) {
    const value = Object.hasOwn(record, field.name) ? record[field.name] : null;
    if (value === null || value === undefined) {
      bins[field.at] = field.missing;
      continue;
    }
    const bin = field.read(value);
    if (typeof bin === 'string') {
      issues.push({ field: field.name, rule: bin });
    } else {
      bins[field.at] = bin;
      if (field.outside(value)) clamped.push(field.name);
    }
  }
  if (issues.length > 0) throw refused(issues);
  deriveBins(derivations, bins);
  return { bins, clamped };
}

function compile(contract: Contract): CompiledContract {
  let found = compiled.get(contract);
  if (found === undefined) {
    const fields = contract.fields.flatMap((field, at) =>
      field.kind === 'interaction' ? [] : compileField(field, at),
    );
    const derivations = derivationsOf(contract);
    found = {
      fields,
      names: new Set(fields.map(({ name }) => name)),
      derived: new Set(derivations.map(({ at }) => contract.fields[at].name)),
      derivations,
    };
    compiled.set(contract, found);
  }
  return found;
}

const never = () => false;

function compileField(field: InputField, at: number): CompiledField {
  const common = { name: field.name, at, missing: missingBin(field) };
  if (field.kind === 'boolean') {
    return {
      ...common,
      outside: never,
      read: (value) => (typeof value === 'boolean' ? Number(value) : 'must be true or false'),
    };
  }
  if (field.kind === 'categorical') {
    const bins = new Map(field.categories.map((category, at) => [category, at]));
    const other = field.categories.length;
    return {
      ...common,
      outside: never,
      read: (value) => {
        if (typeof value !== 'string') return 'must be a string';
        if (value.length > MAX_TEXT) return `must have at most ${MAX_TEXT} characters`;
        return bins.get(value) ?? other;
      },
    };
  }
  const edges = Float64Array.from(fieldEdges(field));
  const { min, max } = field;
  return {
    ...common,
    // Safe: asked only of values that `read` has accepted.
    outside: (value) => (value as number) < min || (value as number) > max,
    read: (value) =>
      typeof value === 'number' && Number.isFinite(value) ? locate(edges, value) : 'must be a finite number',
  };
}

/** An unknown key comes from outside: it is repeated only when it looks like a column name. */
function showName(key: string): string {
  return /^[A-Za-z_][A-Za-z0-9_.-]{0,63}$/.test(key) ? key : '(unprintable name)';
}

function refused(issues: FieldIssue[]): ContractError {
  const first = issues[0];
  const more = issues.length > 1 ? ` (and ${issues.length - 1} more)` : '';
  return new ContractError('RECORD_INVALID', `The record is not valid: ${first.field} ${first.rule}${more}`, {
    where: first.field,
    fix: 'Send exactly the fields of the contract, each with its type; null or absence means missing.',
    issues,
  });
}
