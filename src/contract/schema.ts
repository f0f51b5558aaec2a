/**
 * The shape of a contract document, as a zod schema and as the JSON Schema published in `contracts/`.
 *
 * Strict: an unknown key is refused, so that two parties cannot read one document differently. Rules that relate
 * several fields are in rules.ts; JSON Schema cannot express them.
 */
import * as z from 'zod';

/** Bins of a numeric field that gives neither `bins` nor `edges`. */
export const DEFAULT_BINS = 32;
/** The longest category, label value or text cell, in UTF-16 code units. */
export const MAX_TEXT = 256;
/** The most bins of all fields together. */
export const MAX_TOTAL_BINS = 16_384;

const FORBIDDEN_NAMES = new Set(['__proto__', 'constructor', 'prototype']);

const text = (most: number) =>
  z
    .string()
    .min(1)
    .max(most)
    .refine((value) => value.isWellFormed() && value.trim() === value && !hasControl(value), {
      error: 'must be well-formed text without control characters or white space at its ends',
    });

const columnName = text(64).refine((name) => !FORBIDDEN_NAMES.has(name), { error: 'is a reserved name' });

const character = z
  .string()
  .length(1)
  .refine((value) => !/["\r\n]/.test(value), { error: 'must not be a quote or a line break' });

const reason = z.strictObject({
  code: z.string().regex(/^[A-Z][A-Z0-9_]{1,47}$/, { error: 'must be upper-case letters, digits and underscores' }),
  text: text(300),
});

const numericField = z.strictObject({
  kind: z.literal('numeric'),
  name: columnName,
  min: z.number(),
  max: z.number(),
  scale: z.enum(['linear', 'log1p']).default('linear'),
  bins: z.int().min(2).max(1024).optional(),
  edges: z.array(z.number()).min(1).max(1023).optional(),
  monotone: z.enum(['increasing', 'decreasing']).optional(),
  reason,
});

const categoricalField = z.strictObject({
  kind: z.literal('categorical'),
  name: columnName,
  categories: z.array(text(MAX_TEXT)).min(1).max(1024),
  reason,
});

const booleanField = z.strictObject({ kind: z.literal('boolean'), name: columnName, reason });

/** Null: all value bins of that part. Two parts of at least 2 share at most 256, hence 128. */
const groups = z.int().min(2).max(128).nullable();

const interactionField = z.strictObject({
  kind: z.literal('interaction'),
  name: columnName,
  of: z.tuple([columnName, columnName]),
  bins: z.tuple([groups, groups]).optional(),
  reason,
});

export const contractSchema = z.strictObject({
  format: z.literal('veilrisk-contract/1'),
  name: z.string().regex(/^[a-z][a-z0-9-]{0,62}$/, { error: 'must be lower-case letters, digits and hyphens' }),
  version: z.int().min(1).max(1_000_000),
  title: text(200),
  description: text(4000).optional(),
  synthetic: z.boolean().default(false),
  fields: z
    .array(z.discriminatedUnion('kind', [numericField, categoricalField, booleanField, interactionField]))
    .min(1)
    .max(1024),
  label: z.strictObject({
    name: columnName,
    positive: z.array(text(MAX_TEXT)).min(1).max(64),
    negative: z.array(text(MAX_TEXT)).min(1).max(64),
    title: text(200).optional(),
  }),
  subject: columnName.nullable().default(null),
  time: columnName.nullable().default(null),
  maxRecordsPerSubject: z.int().min(1).max(1000).default(1),
  csv: z
    .strictObject({
      header: z.boolean().default(true),
      columns: z.array(columnName).min(1).max(4096).optional(),
      delimiter: character.default(','),
      comment: character.nullable().default(null),
      trim: z.boolean().default(true),
      missing: z.array(z.string().max(MAX_TEXT)).max(64).default(['']),
    })
    .prefault({}),
});

export type ContractDocument = z.output<typeof contractSchema>;

/** The JSON Schema (draft 2020-12) of a contract document as it is written, that is before defaults. */
export function contractJsonSchema(): Record<string, unknown> {
  const schema = z.toJSONSchema(contractSchema, { io: 'input', target: 'draft-2020-12' });
  return {
    ...schema,
    $id: 'https://veilrisk.example/contract.schema.json',
    title: 'Veilrisk feature contract, format veilrisk-contract/1',
  };
}

function hasControl(value: string): boolean {
  for (let at = 0; at < value.length; at++) {
    const unit = value.charCodeAt(at);
    if (unit < 32 || (unit >= 127 && unit < 160)) return true;
  }
  return false;
}
