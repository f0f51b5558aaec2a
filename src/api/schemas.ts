/**
 * The zod schemas of everything that crosses the REST edge. The same objects validate requests and generate
 * /openapi.json, so that the two cannot disagree.
 *
 * Limit: the members of `transaction` depend on the model's contract, which is data; here they are only scalars with
 * bounded names and lengths, and `binRecord` of the contract room validates them field by field.
 */
import { z } from 'zod';
import { DECISIONS } from '../operations/policy.ts';

const MAX_FIELDS = 512;
const MAX_NAME = 128;
const MAX_TEXT = 256;

export const HASH = z
  .string()
  .regex(/^[0-9a-f]{64}$/)
  .meta({ description: 'SHA-256, 64 hexadecimal digits.' });

/** A name callers choose: visible ASCII, so that it can stand in a header and in a log line as it is. */
export const CALLER_ID = z
  .string()
  .regex(/^[\x21-\x7e]{1,128}$/, 'must be 1 to 128 visible ASCII characters')
  .meta({ description: '1 to 128 visible ASCII characters.', example: 'order-20417' });

const auditReceipt = z
  .object({
    index: z.int().min(0).meta({ description: 'Position of the entry in the audit log, from 0.' }),
    leafHash: HASH.meta({ description: 'RFC 6962 leaf hash of the entry.' }),
  })
  .meta({
    id: 'AuditReceipt',
    description: 'Where the audit log holds this event. It is durable when the reply is sent.',
  });

export const scoreRequest = z
  .strictObject({
    transaction: z
      .record(z.string().min(1).max(MAX_NAME), z.union([z.number(), z.string().max(MAX_TEXT), z.boolean(), z.null()]))
      .refine((fields) => Object.keys(fields).length <= MAX_FIELDS, `must not have more than ${MAX_FIELDS} fields`)
      .meta({
        description: 'The fields of the contract that /v1/models names, by name. Unknown fields are refused.',
        example: { amount: 84.2, merchant_category: 'grocery', card_present: true },
      }),
    id: CALLER_ID.optional().meta({
      description: "The caller's own id of the transaction; also the idempotency key when the header is absent.",
    }),
  })
  .meta({ id: 'ScoreRequest' });

export const scoreReply = z
  .object({
    id: z.string().meta({ description: "The request's `id`, or a new one." }),
    score: z.int().min(0).max(1000).meta({ description: 'Risk score; 500 is average risk, higher is riskier.' }),
    probability: z.number().min(0).max(1).meta({ description: 'Probability of the risky label under the model.' }),
    decision: z.enum(DECISIONS),
    reasons: z.array(
      z.object({
        code: z.string(),
        text: z.string(),
        field: z.string(),
        contribution: z.number().meta({ description: 'In logits against the average transaction.' }),
        direction: z.enum(['raises', 'lowers']),
      }),
    ),
    model: z.object({ hash: HASH }),
    policy: z.object({ version: z.int().min(1), hash: HASH }),
    audit: auditReceipt,
  })
  .meta({ id: 'ScoreReply' });

export const KEY_DAYS_HEADER = 'Veilrisk-Key-Days';
export const GRACE_HEADER = 'Veilrisk-Grace-Hours';

export const keyState = z
  .object({
    keyId: HASH.meta({ description: 'SHA-256 of the public key bytes.' }),
    preset: z.enum(['standard', 'conservative']),
    createdAt: z.iso.datetime(),
    expiresAt: z.iso.datetime().nullable().meta({
      description: 'Not usable from this time on. Null for a key of before keys expired: usable until it is ended.',
    }),
    revokedAt: z.iso.datetime().nullable(),
    replacedBy: HASH.nullable().meta({ description: 'Key id that a rotation put in its place.' }),
    standing: z.enum(['usable', 'expired', 'revoked']),
  })
  .meta({ id: 'KeyState' });

export const keyReply = keyState.extend({ audit: auditReceipt }).meta({ id: 'KeyReply' });

export const keysReply = z
  .object({ keys: z.array(keyState) })
  .meta({ id: 'KeysReply', description: "The caller's keys, newest first, at most 1,000." });

export const rotationReply = z
  .object({ key: keyReply, replaced: keyState })
  .meta({ id: 'RotationReply', description: 'The new key, and the old one with its new end.' });

export const usageReply = z
  .object({
    usage: z.array(
      z.object({
        model: z.object({ hash: HASH, status: z.enum(['champion', 'retired', 'kept']) }),
        vectors: z.int().min(0).meta({ description: 'Distinct vectors that were scored under the model.' }),
        limit: z.int().min(0),
        left: z.int().min(0),
      }),
    ),
  })
  .meta({
    id: 'UsageReply',
    description:
      'What was counted of the owner of the API key, champion first. In the clear a vector counts once, whatever it is ' +
      'asked again; an encrypted request counts all its transactions once, and the same bytes again count nothing.',
  });

const measure = z.object({ estimate: z.number(), low: z.number(), high: z.number() }).nullable().meta({
  id: 'Measure',
  description: 'A value and its 95 % interval, noise included; null where the noise hides it.',
});

const evaluation = z
  .object({
    holdout: z.number().meta({ description: 'Share of the customers who trained nothing and evaluate.' }),
    sites: z.int().min(1).meta({ description: 'Sites that sent a noisy score histogram.' }),
    records: measure,
    baseRate: measure,
    auc: measure,
    ks: measure,
    calibration: z.object({
      inTheLarge: measure.meta({ description: 'Observed over expected positives; 1 is right.' }),
      slope: measure.meta({ description: 'Logistic slope of the label on the predicted log-odds; 1 is right.' }),
      groups: z.array(z.object({ from: z.number(), to: z.number(), predicted: z.number(), observed: measure })),
    }),
  })
  .meta({ id: 'ModelEvaluation', description: 'Federated evaluation, differentially private, signed with the model.' });

export const modelsReply = z
  .object({
    models: z.array(
      z.object({
        hash: HASH,
        status: z.enum(['champion', 'retired']),
        family: z.literal('scorecard'),
        contractHash: HASH,
        contract: z.record(z.string(), z.unknown()).meta({ description: 'The feature contract (contract/FORMAT.md).' }),
        adoptedAt: z.iso.datetime(),
        training: z.object({
          mode: z.string(),
          sites: z.int().min(1),
          rounds: z.int().min(0),
          epsilon: z.number().nullable(),
          delta: z.number().nullable(),
        }),
        evaluation: evaluation.nullable(),
        scaling: z.object({
          ...{ anchorLogit: z.number(), anchorScore: z.number(), pointsToDouble: z.number() },
          residualBound: z
            .number()
            .min(0.5)
            .lt(1)
            .optional()
            .meta({
              description:
                'c, when training clipped residuals: a logit below ln((1 - c) / c) stands for log-odds of ' +
                'logit - ln(1 + e^logit) - ln c, one above ln(c / (1 - c)) for logit + ln(1 + e^-logit) + ln c, one in ' +
                'between for itself. anchorLogit and pointsToDouble are in log-odds.',
            }),
        }),
        decisionThresholds: z.object({ version: z.int(), hash: HASH, reviewFrom: z.int(), declineFrom: z.int() }),
        encryption: z.object({
          presets: z.array(z.string()),
          dimension: z.int().min(1).meta({ description: 'One-hot dimensions of an encrypted transaction.' }),
        }),
      }),
    ),
    kept: z
      .array(
        z.object({
          ...{ hash: HASH, status: z.literal('kept'), family: z.enum(['logistic', 'mlp']), contractHash: HASH },
          keptAt: z.iso.datetime(),
          planHash: HASH.nullable(),
          training: z.object({
            ...{ mode: z.string(), sites: z.int().min(1), rounds: z.int().min(1).nullable() },
            ...{ epsilon: z.number(), delta: z.number() },
          }),
          evaluation: evaluation.nullable(),
          parameters: z.int().min(1),
        }),
      )
      .meta({ description: 'Models of other families that were trained with this node; it does not score with them.' }),
  })
  .meta({ id: 'ModelsReply', description: 'The champion and its predecessors. Weights are never part of it.' });

export const healthReply = z.object({ status: z.literal('alive') }).meta({ id: 'HealthReply' });

export const readyReply = z
  .object({ status: z.enum(['ready', 'not ready']), missing: z.array(z.string()) })
  .meta({ id: 'ReadyReply', description: '`missing` names what the node still waits for.' });

export const problemReply = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    code: z.string().meta({ description: 'Stable; match on this.' }),
    instance: z.string(),
    where: z.string().optional(),
    fix: z.string().optional(),
    issues: z.array(z.object({ field: z.string(), rule: z.string() })).optional(),
  })
  .meta({ id: 'Problem', description: 'RFC 9457 problem details.' });
