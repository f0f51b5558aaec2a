/**
 * What a node answers, parsed once: models, scores, keys, usage.
 *
 * Members this version does not know are ignored, so that a node may be newer than its callers.
 */
import * as z from 'zod';
import { type Contract, contractHash, parseContract } from '../contract/contract.ts';
import { ClientError } from '../errors.ts';
import { malformed } from './problems.ts';

const hash = z.string().regex(/^[0-9a-f]{64}$/);
const decision = z.enum(['approve', 'review', 'decline']);
/** Far beyond any real scaling; without it a hostile one makes a score that is no number. */
const figure = z.number().min(-1e6).max(1e6);
const receipt = z.object({ index: z.int().min(0), leafHash: hash });

const model = z.object({
  hash,
  status: z.enum(['champion', 'retired']),
  family: z.string(),
  contractHash: hash,
  contract: z.unknown(),
  scaling: z.object({
    ...{ anchorLogit: figure, anchorScore: figure, pointsToDouble: figure },
    residualBound: z.number().min(0.5).max(1).optional(),
  }),
  decisionThresholds: z.object({ reviewFrom: z.number(), declineFrom: z.number() }).optional(),
  encryption: z.object({ presets: z.array(z.string()), dimension: z.int().min(1) }).optional(),
});
const modelList = z.object({ models: z.array(model) });

const score = z.object({
  id: z.string().optional(),
  score: z.int().min(0).max(1000),
  probability: z.number().min(0).max(1),
  decision,
  reasons: z.array(z.looseObject({ code: z.string().regex(/^[A-Z][A-Z0-9_]{1,47}$/), text: z.string() })),
  model: z.object({ hash }),
  policy: z.looseObject({ version: z.int(), hash }),
  audit: receipt,
});

const keyState = z.object({
  keyId: hash,
  preset: z.enum(['standard', 'conservative']),
  createdAt: z.iso.datetime(),
  expiresAt: z.iso.datetime().nullable(),
  revokedAt: z.iso.datetime().nullable(),
  replacedBy: hash.nullable(),
  standing: z.enum(['usable', 'expired', 'revoked']),
});
const keyReply = keyState.extend({ audit: receipt });
const keyList = z.object({ keys: z.array(keyState) });
const rotation = z.object({ key: keyReply, replaced: keyState });

const usage = z.object({
  model: z.object({ hash, status: z.enum(['champion', 'retired', 'kept']) }),
  vectors: z.int().min(0),
  limit: z.int().min(0),
  left: z.int().min(0),
});
const usageList = z.object({ usage: z.array(usage) });

export type Decision = z.infer<typeof decision>;
/** A decision in the clear, with its reasons and its place in the node's audit log. */
export type ScoreReply = z.infer<typeof score>;
/**
 * A registered key as the node keeps it. Times are ISO 8601; `expiresAt` null: usable until revoked or replaced;
 * `replacedBy`: the key id that a rotation put in its place.
 */
export type KeyState = z.infer<typeof keyState>;
/** A key after a change, with the audit entry of that change. */
export type KeyReply = z.infer<typeof keyReply>;
/** Old and new key after a rotation. `replaced.expiresAt` is the end of the grace time. */
export interface Rotation {
  readonly key: KeyReply;
  readonly replaced: KeyState;
}
/** Distinct vectors scored under a model by all API keys of this owner, the limit, and what is left of it. */
export type Usage = z.infer<typeof usage>;
/** A model the node serves, with its contract parsed and checked against its hash. */
export type ServedModel = Omit<z.infer<typeof model>, 'contract'> & { readonly contract: Contract };

/** @throws ClientError REPLY_MALFORMED; ContractError CONTRACT_INVALID */
export function parseModels(path: string, json: unknown): ServedModel[] {
  return parsed(modelList, path, json).models.map((one) => {
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

/** @throws ClientError REPLY_MALFORMED, as all below */
export function parseScore(path: string, json: unknown): ScoreReply {
  return parsed(score, path, json);
}

/** @param keyId the key that was asked about; an answer about another is malformed */
export function parseKey(path: string, json: unknown, keyId: string): KeyReply {
  return about(path, parsed(keyReply, path, json), keyId);
}

export function parseKeys(path: string, json: unknown): KeyState[] {
  return parsed(keyList, path, json).keys;
}

export function parseRotation(path: string, json: unknown, oldId: string, newId: string): Rotation {
  const { key, replaced } = parsed(rotation, path, json);
  return { key: about(path, key, newId), replaced: about(path, replaced, oldId) };
}

export function parseUsage(path: string, json: unknown): Usage[] {
  return parsed(usageList, path, json).usage;
}

function parsed<S extends z.ZodType>(schema: S, path: string, json: unknown): z.infer<S> {
  const result = schema.safeParse(json);
  if (!result.success) throw malformed(path, result.error);
  return result.data;
}

function about<K extends KeyState>(path: string, key: K, keyId: string): K {
  if (key.keyId === keyId) return key;
  throw new ClientError('REPLY_MALFORMED', 'the node answered about another key than was sent', { where: path });
}
