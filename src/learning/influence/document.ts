/** Reading an influence report that came from the aggregator. */
import { z } from 'zod';
import { LearningError } from '../../errors.ts';
import type { InfluenceReport } from './report.ts';
import { TESTS } from './suspicion.ts';

const digest = z.string().regex(/^[0-9a-f]{64}$/, { error: 'must be 64 lower-case hexadecimal digits' });
const share = z.number().min(0).max(1);
const measure = z.strictObject({ estimate: z.number(), low: z.number(), high: z.number() }).nullable();
const group = z.strictObject({ from: z.number(), to: z.number(), predicted: z.number(), observed: measure });
const tail = share.nullable();

const site = z.strictObject({
  site: z.string().max(200),
  rounds: z.int().min(0),
  records: share.nullable(),
  suspicion: z
    .strictObject({
      tails: z.strictObject({ fields: tail, range: tail, direction: tail }),
      suspected: z.array(z.enum(TESTS)),
    })
    .nullable(),
  updates: z.array(z.strictObject({ round: z.int().min(0), cosine: z.number(), share, z: z.number().nullable() })),
  withoutIt: z
    .strictObject({ logitShift: z.number().min(0), meanShift: z.number(), fieldShifts: z.array(z.number().min(0)) })
    .nullable(),
  evaluationWithoutIt: z
    .strictObject({
      auc: measure,
      ks: measure,
      calibration: z.strictObject({ inTheLarge: measure, slope: measure, groups: z.array(group) }),
    })
    .nullable(),
});

const schema = z.strictObject({
  format: z.literal('veilrisk-influence/1'),
  planHash: digest,
  modelHash: digest,
  mode: z.enum(['site', 'sum']),
  falseAlarms: share,
  notes: z.array(z.string().max(500)).max(10),
  sites: z.array(site).max(100),
});

/** @throws LearningError MODEL_INVALID with one issue per rule broken. */
export function readInfluence(json: unknown): InfluenceReport {
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map(({ path, message }) => ({ field: path.map(String).join('.'), rule: message }));
  throw new LearningError('MODEL_INVALID', 'The influence report is not valid.', {
    where: issues[0].field || 'influence',
    fix: 'Use the software of one version at all parties.',
    issues,
  });
}
