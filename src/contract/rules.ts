/**
 * The rules of a contract that relate several fields to one another, checked after its shape.
 *
 * Each rule exists because breaking it would let one document be read in two ways, or make a bin unreachable.
 */
import type { FieldIssue } from '../errors.ts';
import { fieldEdges } from './bins.ts';
import type { Contract, InteractionField, NumericField } from './contract.ts';
import { MAX_INTERACTION_BINS, partNamed, valueBins } from './interaction.ts';
import { fieldSize } from './layout.ts';
import { MAX_TOTAL_BINS } from './schema.ts';

/** Every rule the contract breaks, with the path of the place; empty when it is sound. */
export function ruleIssues(contract: Contract): FieldIssue[] {
  const issues: FieldIssue[] = [];
  const refuse = (field: string, rule: string) => issues.push({ field, rule });

  const taken = new Set<string>();
  const pairs = new Set<string>();
  for (const [at, field] of contract.fields.entries()) {
    const path = `fields.${at}`;
    if (taken.has(field.name)) refuse(`${path}.name`, 'must differ from every other field');
    taken.add(field.name);
    if (field.kind === 'numeric') numericIssues(field, path, refuse);
    if (field.kind === 'interaction') interactionIssues(contract, field, path, pairs, refuse);
    if (field.kind === 'categorical') {
      if (new Set(field.categories).size < field.categories.length) refuse(`${path}.categories`, 'must not repeat');
      if (field.categories.some((category) => contract.csv.missing.includes(category))) {
        refuse(`${path}.categories`, 'must not hold a value that csv.missing declares missing');
      }
    }
  }

  for (const place of ['label', 'subject', 'time'] as const) {
    const name = place === 'label' ? contract.label.name : contract[place];
    if (name === null) continue;
    const path = place === 'label' ? 'label.name' : place;
    if (taken.has(name)) refuse(path, 'must not be the name of a field or of another column');
    taken.add(name);
  }

  const { positive, negative } = contract.label;
  if (positive.some((value) => negative.includes(value))) refuse('label', 'positive and negative must be disjoint');
  if ([...positive, ...negative].some((value) => contract.csv.missing.includes(value))) {
    refuse('label', 'must not hold a value that csv.missing declares missing');
  }

  csvIssues(contract, taken, refuse);
  if (issues.length === 0) {
    const total = contract.fields.reduce((sum, field) => sum + fieldSize(field), 0);
    if (total > MAX_TOTAL_BINS) refuse('fields', `must have at most ${MAX_TOTAL_BINS} bins in total`);
  }
  return issues;
}

function numericIssues(field: NumericField, path: string, refuse: (field: string, rule: string) => void): void {
  if (!(field.min < field.max)) {
    refuse(`${path}.max`, 'must be greater than min');
    return;
  }
  if (!Number.isFinite(field.max - field.min)) {
    refuse(`${path}.max`, 'must not be so far from min that the distance overflows');
    return;
  }
  if (field.edges !== undefined) {
    if (field.bins !== undefined) refuse(`${path}.edges`, 'must not be given together with bins');
    if (field.edges.some((edge, at, edges) => at > 0 && !(edges[at - 1] < edge))) {
      refuse(`${path}.edges`, 'must be strictly ascending');
    }
    if (field.edges.some((edge) => !(edge > field.min && edge < field.max))) {
      refuse(`${path}.edges`, 'must lie strictly between min and max');
    }
    return;
  }
  const edges = fieldEdges(field);
  const within = edges.every((edge, at) => edge > (at === 0 ? field.min : edges[at - 1]) && edge < field.max);
  if (!within) refuse(`${path}.bins`, 'must not be so many that two edges coincide between these bounds');
}

function interactionIssues(
  contract: Contract,
  field: InteractionField,
  path: string,
  pairs: Set<string>,
  refuse: (field: string, rule: string) => void,
): void {
  const parts = field.of.map((name) => partNamed(contract.fields, name));
  for (const [side, part] of parts.entries()) {
    if (part === undefined) {
      refuse(`${path}.of.${side}`, 'must be the name of a numeric, categorical or boolean field of the contract');
      continue;
    }
    const most = valueBins(part);
    const groups = field.bins[side];
    if (part.kind === 'numeric' ? groups > most : groups !== most) {
      const wanted = part.kind === 'numeric' ? `at most ${most}, the value bins` : `${most} (or null), all bins`;
      refuse(`${path}.bins.${side}`, `must be ${wanted} of ${part.name}`);
    }
  }
  if (field.of[0] === field.of[1]) refuse(`${path}.of`, 'must name two different fields');
  const pair = JSON.stringify([...field.of].sort());
  if (pairs.has(pair)) refuse(`${path}.of`, 'must not repeat the pair of another interaction, in either order');
  pairs.add(pair);
  if (field.bins[0] * field.bins[1] > MAX_INTERACTION_BINS) {
    refuse(`${path}.bins`, `must multiply to at most ${MAX_INTERACTION_BINS}; give fewer groups of a numeric part`);
  }
}

function csvIssues(contract: Contract, needed: Set<string>, refuse: (field: string, rule: string) => void): void {
  const { header, columns, delimiter, comment } = contract.csv;
  if (comment === delimiter) refuse('csv.comment', 'must differ from the delimiter');
  if (header) {
    if (columns !== undefined) refuse('csv.columns', 'must be absent when the file has a header line');
    return;
  }
  if (columns === undefined) {
    refuse('csv.columns', 'must list the columns when the file has no header line');
    return;
  }
  if (new Set(columns).size < columns.length) refuse('csv.columns', 'must not repeat a column');
  const derived = new Set(contract.fields.flatMap(({ kind, name }) => (kind === 'interaction' ? [name] : [])));
  for (const name of derived) if (columns.includes(name)) refuse('csv.columns', `must not include the derived ${name}`);
  for (const name of needed) {
    if (!derived.has(name) && !columns.includes(name)) refuse('csv.columns', `must include the column ${name}`);
  }
}
