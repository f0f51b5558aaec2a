/**
 * Signed envelopes: sealing and opening.
 *
 * Signature input (PROTOCOL.md, "Bytes"): six fields, each preceded by its length as a 32-bit big-endian integer:
 * domain, kind, signer, message id, roster hash (32 bytes), body. Length prefixes make the split unique, the domain and
 * the kind keep a signature from being used as another message.
 */

import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { FederationError } from '../../src/errors.ts';
import { frame } from './canonical.ts';
import type { SignedEnvelope } from './generated/veilrisk_pb.js';
import * as wire from './generated/veilrisk_pb.js';
import { type IdentityKey, verifySignature } from './identity.ts';
import { AGGREGATOR, OPERATOR, type Roster, rosterHash, signerKey } from './roster.ts';

export const SIGNATURE_DOMAIN = 'veilrisk/federation/v1';

type Role = 'site' | 'operator' | 'aggregator';
interface Kind {
  schema: DescMessage;
  by: readonly Role[];
}

const site = ['site'] as const;
const aggregator = ['aggregator'] as const;
const member = ['site', 'operator'] as const;

/** Every kind of message, its body and who may sign it. */
const KINDS = {
  propose: { schema: wire.ProposalSchema, by: ['operator'] as const },
  answer: { schema: wire.PlanAnswerSchema, by: site },
  listen: { schema: wire.ListenSchema, by: site },
  update: { schema: wire.UpdateSchema, by: site },
  acknowledge: { schema: wire.AcknowledgeSchema, by: site },
  keys: { schema: wire.EpochKeysSchema, by: site },
  shares: { schema: wire.EpochSharesSchema, by: site },
  agreement: { schema: wire.AgreementSchema, by: site },
  reveal: { schema: wire.UnmaskingSchema, by: site },
  checkpoint: { schema: wire.CheckpointSchema, by: site },
  abort: { schema: wire.AbortRequestSchema, by: ['operator'] as const },
  query: { schema: wire.QuerySchema, by: member },
  proposed: { schema: wire.ProposalReceiptSchema, by: aggregator },
  answered: { schema: wire.AnswerReceiptSchema, by: aggregator },
  task: { schema: wire.TaskSchema, by: aggregator },
  received: { schema: wire.UpdateReceiptSchema, by: aggregator },
  acknowledged: { schema: wire.AcknowledgeReceiptSchema, by: aggregator },
  stored: { schema: wire.StepReceiptSchema, by: aggregator },
  aborted: { schema: wire.AbortReceiptSchema, by: aggregator },
  cosigned: { schema: wire.CosignedSchema, by: aggregator },
  roster: { schema: wire.PublishedRosterSchema, by: aggregator },
  status: { schema: wire.PlanStatusSchema, by: aggregator },
  plan: { schema: wire.PublishedPlanSchema, by: aggregator },
  published: { schema: wire.PublishedSchema, by: aggregator },
  influence: { schema: wire.InfluenceSchema, by: aggregator },
  model: { schema: wire.ModelSchema, by: aggregator },
} satisfies Record<string, Kind>;

export type MessageKind = keyof typeof KINDS;
type Body<K extends MessageKind> = MessageShape<(typeof KINDS)[K]['schema']>;
export type BodyInit<K extends MessageKind> = MessageInitShape<(typeof KINDS)[K]['schema']>;

export interface Opened<K extends MessageKind> {
  message: Body<K>;
  signer: string;
  messageId: string;
}

/** Message ids: what a database column and a log line can hold. */
const MESSAGE_ID = /^[\x21-\x7e]{1,200}$/;

/** The bytes an envelope's signature covers. */
export function signedBytes(
  { kind, signer, messageId, body }: Omit<SignedEnvelope, '$typeName' | '$unknown' | 'signature'>,
  roster: Uint8Array,
): Uint8Array<ArrayBuffer> {
  return frame([SIGNATURE_DOMAIN, kind, signer, messageId, roster, body]);
}

/** One party's end: seals with its own key, opens what the others of the same roster sealed. */
export class Party {
  readonly roster: Roster;
  readonly rosterHash: string;
  readonly name: string;
  readonly #key: IdentityKey;
  readonly #hash: Uint8Array;

  /** Throws ROSTER_INVALID when the roster lists another key, or nobody, under `name`. */
  constructor(roster: Roster, name: string, key: IdentityKey) {
    if (signerKey(roster, name) !== key.publicKey) {
      throw new FederationError('ROSTER_INVALID', `The roster does not list this identity key for "${name}".`, {
        where: name,
        fix: 'Use the key that was enrolled, or have the operator enrol this one.',
      });
    }
    this.roster = roster;
    this.name = name;
    this.#key = key;
    this.rosterHash = rosterHash(roster);
    this.#hash = new Uint8Array(Buffer.from(this.rosterHash, 'hex'));
  }

  seal<K extends MessageKind>(kind: K, messageId: string, init: BodyInit<K>): SignedEnvelope {
    const schema: DescMessage = KINDS[kind].schema;
    const body = toBinary(schema, create(schema, init));
    const head = { body, kind, signer: this.name, messageId };
    const signature = this.#key.sign(signedBytes(head, this.#hash));
    return create(wire.SignedEnvelopeSchema, { ...head, signature });
  }

  /**
   * Checks kind, signer's role, signature and, when given, the expected message id; then parses the body.
   * Throws MESSAGE_MALFORMED, SITE_UNKNOWN or MESSAGE_SIGNATURE.
   */
  open<K extends MessageKind>(kind: K, envelope: SignedEnvelope, messageId?: string): Opened<K> {
    if (envelope.kind !== kind) {
      throw new FederationError('MESSAGE_MALFORMED', `Expected a message of kind "${kind}".`, { where: 'kind' });
    }
    if (!MESSAGE_ID.test(envelope.messageId)) {
      throw new FederationError('MESSAGE_MALFORMED', 'The message id must be 1 to 200 printable ASCII characters.', {
        where: 'message_id',
      });
    }
    const key = signerKey(this.roster, envelope.signer);
    if (key === undefined) {
      throw new FederationError('SITE_UNKNOWN', 'The signer is not in the roster.', {
        where: 'signer',
        fix: 'Ask the operator to enrol this site, then restart the aggregator with the new roster.',
      });
    }
    const allowed: readonly Role[] = KINDS[kind].by;
    if (!allowed.includes(roleOf(envelope.signer))) {
      throw new FederationError('MESSAGE_SIGNATURE', `A "${kind}" message may not be signed by this party.`, {
        where: 'signer',
      });
    }
    if (!verifySignature(key, signedBytes(envelope, this.#hash), envelope.signature)) {
      throw new FederationError('MESSAGE_SIGNATURE', 'The signature does not verify.', {
        where: kind,
        fix: `Check that both sides hold the same roster (SHA-256 here: ${this.rosterHash}) and the enrolled key.`,
      });
    }
    if (messageId !== undefined && envelope.messageId !== messageId) {
      throw new FederationError('MESSAGE_SIGNATURE', 'The reply answers another message.', { where: 'message_id' });
    }
    try {
      // Safe: the schema of a kind yields that kind's body; the compiler loses the link through the table.
      const message = fromBinary(KINDS[kind].schema as DescMessage, envelope.body) as Body<K>;
      return { message, signer: envelope.signer, messageId: envelope.messageId };
    } catch (cause) {
      throw new FederationError('MESSAGE_MALFORMED', `The body is not a "${kind}" message.`, { where: kind, cause });
    }
  }
}

/** An envelope as stored or carried inside another message. */
export function envelopeBytes(envelope: SignedEnvelope): Uint8Array<ArrayBuffer> {
  return new Uint8Array(toBinary(wire.SignedEnvelopeSchema, envelope));
}

export function envelopeFrom(bytes: Uint8Array): SignedEnvelope {
  return fromBinary(wire.SignedEnvelopeSchema, bytes);
}

function roleOf(signer: string): Role {
  return signer === OPERATOR ? 'operator' : signer === AGGREGATOR ? 'aggregator' : 'site';
}
