/**
 * Interaction fields: the pair of two other fields' bins as one more field, without a column of its own.
 *
 * An additive model gives every field a curve and can say nothing that holds only of two fields together. Which pairs
 * matter is named in the contract, from public knowledge (compare GA2M: Lou et al., "Accurate intelligible models with
 * pairwise interactions", KDD 2013, which looks for them in the data; that would be a release nobody accounted for).
 * The bin of an interaction is a function of the bins of its parts alone, so binning stays the only reading of a value.
 *
 * Limit: a bin of a pair holds fewer records than a bin of either part, and noise does not shrink with it: group.
 */
import type { Contract, Field, InputField, InteractionField } from './contract.ts';
import { fieldSize } from './layout.ts';

/** The most value bins of an interaction, `missing` not counted. */
export const MAX_INTERACTION_BINS = 256;

/** How one interaction follows from the bins of a record. */
export interface Derivation {
  /** Its own place among the fields. */
  readonly at: number;
  /** The places of its parts. */
  readonly parts: readonly [number, number];
  /** What each bin of either part adds to the bin; -1 when that part is missing. */
  readonly worth: readonly [Int32Array, Int32Array];
  readonly missing: number;
}

/** Value bins of a field that has a column: all but `missing`. */
export function valueBins(field: InputField): number {
  return fieldSize(field) - 1;
}

/** The group of a part's value bin: floor(bin * groups / value bins), which for a vocabulary is the bin itself. */
export function groupOf(part: InputField, groups: number, bin: number): number {
  return Math.floor((bin * groups) / valueBins(part));
}

/** The field of that name that an interaction can be made of; undefined when there is none. */
export function partNamed(fields: readonly Field[], name: string): InputField | undefined {
  return fields.find((field): field is InputField => field.name === name && field.kind !== 'interaction');
}

/** The interactions of a sound contract, in contract order; `deriveBins` takes them. */
export function derivationsOf(contract: Pick<Contract, 'fields'>): Derivation[] {
  const places = new Map(contract.fields.map((field, at) => [field.name, at]));
  return contract.fields.flatMap((field, at) => {
    if (field.kind !== 'interaction') return [];
    const worth = (side: 0 | 1, each: number): Int32Array => {
      const part = contract.fields[place(side)];
      // Safe: rules.ts refuses an interaction whose parts are not fields with a column.
      const input = part as InputField;
      const missing = valueBins(input);
      return Int32Array.from({ length: missing + 1 }, (_, bin) =>
        bin === missing ? -1 : each * groupOf(input, field.bins[side], bin),
      );
    };
    // Safe: rules.ts refuses an interaction of unknown names.
    const place = (side: 0 | 1): number => places.get(field.of[side])!;
    return [
      {
        at,
        parts: [place(0), place(1)] as const,
        worth: [worth(0, field.bins[1]), worth(1, 1)] as const,
        missing: fieldSize(field) - 1,
      },
    ];
  });
}

/** Fills in the bins of the interactions of one record; those of all other fields are there already. */
export function deriveBins(derivations: readonly Derivation[], bins: Uint16Array): void {
  for (const { at, parts, worth, missing } of derivations) {
    const first = worth[0][bins[parts[0]]];
    const second = worth[1][bins[parts[1]]];
    bins[at] = first < 0 || second < 0 ? missing : first + second;
  }
}

/** The value bins of its parts that an interaction's bin stands for: first and last of either part. */
export function binsBehind(
  field: InteractionField,
  parts: readonly [InputField, InputField],
  bin: number,
): [first: number, last: number][] {
  const groups = [Math.floor(bin / field.bins[1]), bin % field.bins[1]];
  return groups.map((group, side): [number, number] => {
    const inverse = (g: number) => Math.ceil((g * valueBins(parts[side])) / field.bins[side]);
    return [inverse(group), inverse(group + 1) - 1];
  });
}
