/** A site driven by hand over the real connection: every message can be honest, wrong, early, late or twice. */
import type { BodyInit, MessageKind, Party } from '../../federated/protocol/envelope.ts';
import { fromConnectError } from '../../federated/protocol/failure.ts';
import type { SignedEnvelope } from '../../federated/protocol/generated/veilrisk_pb.js';
import type { Connection } from '../../federated/protocol/transport.ts';
import type { Advertisement, SealedShare } from '../../federated/secagg/epoch.ts';
import { EpochParticipant } from '../../federated/secagg/participant.ts';
import type { OpenedShare, SumContext } from '../../federated/secagg/sum.ts';
import { planHash, type TrainingPlan } from '../../src/learning/plan.ts';
import { systemRandom } from '../../src/random.ts';

type Step = 'answer' | 'update' | 'keys' | 'shares' | 'agreement' | 'reveal';

/** Safe: nothing here lives in shared memory. */
export const plain = (view: Uint8Array) => view as Uint8Array<ArrayBuffer>;

export class HandDrivenSite {
  readonly party: Party;
  readonly plan: TrainingPlan;
  readonly #connection: Connection;
  readonly #named: { planId: string; planHash: string };
  participant: EpochParticipant | undefined;
  #ids = 0;

  constructor(party: Party, plan: TrainingPlan, connection: Connection) {
    this.party = party;
    this.plan = plan;
    this.#connection = connection;
    this.#named = { planId: plan.id, planHash: planHash(plan) };
  }

  get id(): string {
    return this.party.name;
  }

  /** Signs a message; every one gets an id of its own unless it is given. */
  seal<K extends Step & MessageKind>(kind: K, body: object, messageId?: string): SignedEnvelope {
    const id = messageId ?? `${kind}/${this.id}/${this.#ids++}`;
    // Safe: callers give the rest of the kind's body; a wrong one is what the tests are about.
    return this.party.seal(kind, id, { ...this.#named, ...body } as unknown as BodyInit<K>);
  }

  /** The code of the refusal, or "stored". */
  async send(kind: Step, envelope: SignedEnvelope): Promise<string> {
    const { federation } = this.#connection;
    const calls = {
      answer: federation.answer,
      update: federation.submit,
      keys: federation.advertiseKeys,
      shares: federation.submitShares,
      agreement: federation.agree,
      reveal: federation.reveal,
    };
    try {
      await calls[kind](envelope);
      return 'stored';
    } catch (error) {
      return fromConnectError(error).code;
    }
  }

  say(kind: Step, body: object, messageId?: string): Promise<string> {
    return this.send(kind, this.seal(kind, body, messageId));
  }

  /** Keys for an epoch, made now. */
  makeKeys(epoch: number, slots: number): Advertisement {
    const { threshold, quorum: minimum } = this.plan;
    const roster = this.party.roster.sites.map(({ id }) => id);
    const rosterHash = new Uint8Array(Buffer.from(this.party.rosterHash, 'hex'));
    const context = { rosterHash, planHash: this.#named.planHash, epoch, threshold, minimum, slots, roster };
    this.participant = new EpochParticipant(context, this.id, systemRandom());
    return this.participant.advertise();
  }

  keysBody(epoch: number, { channelKey, maskKeys }: Advertisement) {
    return { epoch, channelKey: plain(channelKey), maskKeys: plain(maskKeys), incarnation: `process-of-${this.id}` };
  }

  async sealShares(list: readonly Advertisement[]) {
    const { listHash, shares } = await this.#made().seal(list);
    return { listHash: plain(listHash), shares: shares.map(copyOf) };
  }

  accept(delivered: readonly SealedShare[]): void {
    this.#made().accept(delivered);
  }

  mask(sum: SumContext, values: Float64Array): Uint8Array<ArrayBuffer> {
    return plain(this.#made().mask(sum, values));
  }

  agree(sum: SumContext, survivors: readonly string[]): Uint8Array<ArrayBuffer> {
    return plain(this.#made().agree(sum, survivors, this.plan.quorum));
  }

  reveal(sum: SumContext, agreements: readonly { site: string; agreement: Uint8Array }[]) {
    const { selfShares, keyShares } = this.#made().reveal(sum, agreements);
    const opened = ({ site, share }: OpenedShare) => ({ site, share: plain(share) });
    return { selfShares: selfShares.map(opened), keyShares: keyShares.map(opened) };
  }

  #made(): EpochParticipant {
    if (this.participant === undefined) throw new TypeError('make keys first');
    return this.participant;
  }
}

const copyOf = ({ site, sealed }: SealedShare) => ({ site, sealed: plain(sealed) });
