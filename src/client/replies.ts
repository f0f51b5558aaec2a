/**
 * What a node answers, parsed once: models, scores, registered keys.
 *
 * Members this version does not know are ignored, so that a node may be newer than its callers.
 */
import { z } from 'zod';
import { type Contract, contractHash, parseContract } from '../contract/contract.ts';
import { ClientError } from '../errors.ts';
import { malformed } from './service.ts';

const hash = z.string().regex(/^[0-9a-f]{64}$/);
const decision = z.enum(['approve', 'review', 'decline']);

const model = z.object({
  hash,
  status: z.enum(['champion', 'retired']),
  family: z.string(),
  contractHash: hash,
  contract: z.unknown(),
  scaling: z.object({
    ...{ anchorLogit: z.number(), anchorScore: z.number(), pointsToDouble: z.number() },
    residualBound: z.number().min(0.5).max(1).optional(),
  }),
  decisionThresholds: z.object({ reviewFrom: z.number(), declineFrom: z.number() }).optional(),
  encryption: z.object({ presets: z.array(z.string()), dimension: z.int().min(1) }).optional(),
});

const score = z.object({
  id: z.string().optional(),
  score: z.int().min(0).max(1000),
  probability: z.number().min(0).max(1),
  decision,
  reasons: z.array(z.looseObject({ code: z.string(), text: z.string() })),
  model: z.object({ hash }),
  policy: z.looseObject({ version: z.int(), hash }),
  audit: z.object({ index: z.int().min(0), leafHash: hash }),
});

const key = z.object({ keyId: hash, preset: z.enum(['standard', 'conservative']), createdAt: z.string() });

export type Decision = z.infer<typeof decision>;
export type ScoreReply = z.infer<typeof score>;
export type KeyReply = z.infer<typeof key>;
/** A model the node serves, with its contract parsed and checked against its hash. */
export type ServedModel = Omit<z.infer<typeof model>, 'contract'> & { readonly contract: Contract };

/** @throws ClientError REPLY_MALFORMED; ContractError CONTRACT_INVALID */
export function parseModels(path: string, json: unknown): ServedModel[] {
  const parsed = z.object({ models: z.array(model) }).safeParse(json);
  if (!parsed.success) throw malformed(path, parsed.error);
  return parsed.data.models.map((one) => {
    const contract = parseContract(one.contract);
    if (contractHash(contract) !== one.contractHash) {
      throw new ClientError('REPLY_MALFORMED', 'a contract of the node does not have the hash the node gives', {
        where: path,
        fix: 'Do not encrypt for this node; ask its operator.',
      });
    }
    return { ...one, contract };
  });
}

/** @throws ClientError REPLY_MALFORMED */
export function parseScore(path: string, json: unknown): ScoreReply {
  const parsed = score.safeParse(json);
  if (!parsed.success) throw malformed(path, parsed.error);
  return parsed.data;
}

/** @throws ClientError REPLY_MALFORMED */
export function parseKey(path: string, json: unknown): KeyReply {
  const parsed = key.safeParse(json);
  if (!parsed.success) throw malformed(path, parsed.error);
  return parsed.data;
}
