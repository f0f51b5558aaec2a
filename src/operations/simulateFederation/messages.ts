/**
 * Messages of a simulated federation: the protobuf bytes that would travel, so that sizes are those of the wire and no
 * party can touch another's objects.
 *
 * Limit: envelopes carry 64 zero bytes in the place of a signature. Who signs what, and what happens to a message that
 * nobody signed, is tested on the real wire; here it would only cost time.
 */
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import * as wire from '../../../federated/protocol/generated/veilrisk_pb.js';

const BODIES = {
  listen: wire.ListenSchema,
  task: wire.TaskSchema,
  update: wire.UpdateSchema,
  keys: wire.EpochKeysSchema,
  shares: wire.EpochSharesSchema,
  agreement: wire.AgreementSchema,
  reveal: wire.UnmaskingSchema,
} satisfies Record<string, DescMessage>;

export type Kind = keyof typeof BODIES;
export type Body<K extends Kind> = MessageShape<(typeof BODIES)[K]>;
export type BodyInit<K extends Kind> = MessageInitShape<(typeof BODIES)[K]>;
export type TaskInit = NonNullable<BodyInit<'task'>['task']>;

/** Steps of a round, in their order; `plain` is that of a round without masks. */
export const PHASES = ['keys', 'shares', 'plain', 'inputs', 'agreement', 'reveal'] as const;
export type Phase = (typeof PHASES)[number];

export interface Message {
  readonly kind: Kind;
  readonly phase: Phase;
  /** SignedEnvelope, protobuf bytes. */
  readonly bytes: Uint8Array;
}

const UNSIGNED = new Uint8Array(64);
// As long as those of the real wire: a UUID, a slash and a counter, or a kind, a plan's hash and two numbers.
const ID_LENGTH = { task: 46, other: 76 };

export function pack<K extends Kind>(kind: K, phase: Phase, signer: string, init: BodyInit<K>): Message {
  // Safe: the schema of a kind has that kind's init; the compiler loses the link through the table.
  const schema: DescMessage = BODIES[kind];
  const body = toBinary(schema, create(schema, init as MessageInitShape<DescMessage>));
  const messageId = kind.padEnd(kind === 'task' ? ID_LENGTH.task : ID_LENGTH.other, '-');
  const envelope = create(wire.SignedEnvelopeSchema, { body, kind, signer, messageId, signature: UNSIGNED });
  return { kind, phase, bytes: toBinary(wire.SignedEnvelopeSchema, envelope) };
}

/** The body of a message that the caller knows to be of that kind. */
export function open<K extends Kind>(kind: K, { bytes }: Pick<Message, 'bytes'>): { signer: string; body: Body<K> } {
  return openEnvelope(kind, fromBinary(wire.SignedEnvelopeSchema, bytes));
}

export function openEnvelope<K extends Kind>(
  kind: K,
  { body, signer }: Pick<wire.SignedEnvelope, 'body' | 'signer'>,
): { signer: string; body: Body<K> } {
  // Safe: as in `pack`.
  return { signer, body: fromBinary(BODIES[kind] as DescMessage, body) as Body<K> };
}

/** The envelope inside another message. */
export function envelopeOf({ bytes }: Pick<Message, 'bytes'>): wire.SignedEnvelope {
  return fromBinary(wire.SignedEnvelopeSchema, bytes);
}
