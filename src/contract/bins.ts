/**
 * Bins of a field: their edges, the bin of a value, and the name of a bin. Their order is in layout.ts.
 *
 * Edges are computed once from the contract and values are only compared with them, so a value falls into the same
 * bin wherever the contract is read. Edges of a log1p scale are rounded to 12 significant digits, because the last
 * bits of expm1 and log1p may differ between engines (ECMA-262 section 21.3 leaves them implementation-approximated).
 */
import { ContractError } from '../errors.ts';
import type { Contract, Field, InputField, NumericField } from './contract.ts';
import { binsBehind, partNamed } from './interaction.ts';
import { fieldSize } from './layout.ts';

/** Inner cut points of a numeric field, ascending; B bins have B - 1 of them. */
export function fieldEdges(field: NumericField): number[] {
  if (field.edges !== undefined) return field.edges;
  // Safe: a parsed numeric field has `bins` whenever it has no `edges`.
  const bins = field.bins!;
  const edges: number[] = [];
  if (field.scale === 'linear') {
    for (let i = 1; i < bins; i++) edges.push(field.min + ((field.max - field.min) * i) / bins);
    return edges;
  }
  const shift = Math.max(0, -field.min);
  const low = Math.log1p(field.min + shift);
  const high = Math.log1p(field.max + shift);
  for (let i = 1; i < bins; i++) {
    edges.push(Number((Math.expm1(low + ((high - low) * i) / bins) - shift).toPrecision(12)));
  }
  return edges;
}

/** Index of the bin that holds x, by bisection; x is finite. Values outside the bounds fall into the outer bins. */
export function locate(edges: ArrayLike<number>, x: number): number {
  let low = 0;
  let high = edges.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x < edges[middle]) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * A bin's name for people: an interval, a category, `false`, `true`, `other` or `missing`; of an interaction
 * 'age 30 to below 45 and hours 40 to 50'.
 */
export function binTitle(contract: Pick<Contract, 'fields'>, field: Field, bin: number): string {
  const last = fieldSize(field) - 1;
  if (!Number.isInteger(bin) || bin < 0 || bin > last) {
    throw new ContractError('RECORD_INVALID', `A bin of this field is a whole number in 0 .. ${last}`, {
      where: field.name,
    });
  }
  if (bin === last) return 'missing';
  if (field.kind !== 'interaction') return rangeTitle(field, bin, bin);
  // Safe: rules.ts refuses an interaction of names that are no fields with a column.
  const parts = field.of.map((name) => partNamed(contract.fields, name)!) as [InputField, InputField];
  return binsBehind(field, parts, bin)
    .map(([first, final], side) => `${field.of[side]} ${rangeTitle(parts[side], first, final)}`)
    .join(' and ');
}

/** The values of neighbouring value bins; of a vocabulary, the first alone. */
function rangeTitle(field: InputField, first: number, last: number): string {
  if (field.kind === 'boolean') return first === 1 ? 'true' : 'false';
  if (field.kind === 'categorical') return field.categories[first] ?? 'other';
  const edges = fieldEdges(field);
  const from = first === 0 ? field.min : edges[first - 1];
  const final = last === edges.length;
  const to = final ? field.max : edges[last];
  return `${short(from)} to ${final ? '' : 'below '}${short(to)}`;
}

function short(value: number): string {
  return String(Number(value.toPrecision(6)));
}
