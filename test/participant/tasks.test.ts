/** What a lying aggregator can send a site, and that the bank is not even asked for a release. */
import { create } from '@bufbuild/protobuf';
import { beforeEach, describe, expect, test } from '@jest/globals';
import { canonicalBytes, sha256Hex } from '../../federated/protocol/canonical.ts';
import { modelMessageId } from '../../federated/protocol/client.ts';
import type { Party } from '../../federated/protocol/envelope.ts';
import {
  PlanEndedSchema,
  PlanOfferSchema,
  type RoundTask,
  RoundTaskSchema,
} from '../../federated/protocol/generated/veilrisk_pb.js';
import { connect } from '../../federated/protocol/transport.ts';
import { encodeWeights, NO_WEIGHTS, stateHash } from '../../federated/protocol/weights.ts';
import { layoutOf } from '../../src/contract/contract.ts';
import { courseFor } from '../../src/learning/course.ts';
import { planHash, type TrainingPlan } from '../../src/learning/plan.ts';
import { planKnownAs, type Session } from '../../src/participant/session.ts';
import { answerOffer, doRound as doRoundWith, endPlan } from '../../src/participant/tasks.ts';
import { systemRandom } from '../../src/random.ts';
import {
  aggregatorParty,
  contract,
  MemoryBank,
  makeConsortium,
  makePlan,
  operatorParty,
  quiet,
  siteParty,
} from '../federated/consortium.ts';

const consortium = makeConsortium(2);
const plan = makePlan(consortium);
const hash = planHash(plan);
const { total } = layoutOf(contract);
const operator = operatorParty(consortium);
const aggregator = aggregatorParty(consortium);
let bank: MemoryBank;
let session: Session;
let asked: number;

beforeEach(() => {
  bank = new MemoryBank(1);
  asked = 0;
  bank.answer = async () => {
    asked++;
    return { accepted: true };
  };
  // Nobody listens there: a task that passed its checks would fail with a code of the network, not of the check.
  const connection = connect(consortium.roster, 'https://127.0.0.1:1', consortium.sites[0].key);
  session = {
    ...{ party: siteParty(consortium, 0), connection, port: bank, log: quiet, plans: new Map() },
    ...{ random: systemRandom(), incarnation: 'a process', cosigned: { size: 0, sent: 0 } },
  };
  session.plans.set(plan.id, planKnownAs(session, courseFor(plan, contract)));
});

const doRound = (at: Session, task: RoundTask) => doRoundWith(at, task, undefined);

const proposal = (by: Party, document: object = plan) =>
  by.seal('propose', 'p', {
    planJson: canonicalBytes(document),
    contractJson: canonicalBytes(contract),
    acceptanceDeadlineMs: 1000,
  });

interface RoundChanges {
  planHash?: string;
  round?: number;
  intercept?: number;
  weights?: Uint8Array<ArrayBuffer>;
  stateHash?: Uint8Array<ArrayBuffer>;
}

function round(changes: RoundChanges = {}): RoundTask {
  const flat = new Float64Array(total);
  const weights = encodeWeights(flat);
  const base = { planId: plan.id, planHash: hash, round: 1, of: plan.rounds, weights, intercept: 0 };
  return create(RoundTaskSchema, { ...base, stateHash: stateHash({ intercept: 0, flat }), ...changes });
}

describe('an offer', () => {
  test.each([
    ['signed by nobody the site obeys', () => ({ ...proposal(operator), signer: 'aggregator' }), 'MESSAGE_SIGNATURE'],
    [
      'with a larger epsilon than the operator signed',
      () => ({ ...proposal(operator), body: proposal(operator, { ...plan, epsilon: 50 }).body }),
      'MESSAGE_SIGNATURE',
    ],
    ['for another contract', () => proposal(operator, { ...plan, contractHash: '0'.repeat(64) }), 'PLAN_REFUSED'],
  ])('%s is not put to the bank', async (_name, forged, code) => {
    const offer = create(PlanOfferSchema, { proposal: forged() });
    await expect(answerOffer(session, offer)).rejects.toMatchObject({ code });
    expect(asked).toBe(0);
  });

  test('the operator signed is put to the bank', async () => {
    await expect(answerOffer(session, create(PlanOfferSchema, { proposal: proposal(operator) }))).rejects.toThrow();
    expect(asked).toBe(1);
  });
});

describe('a round', () => {
  const nan = encodeWeights(new Float64Array(total).fill(Number.NaN));
  test.each<[string, RoundChanges, string]>([
    ['of another plan hash', { planHash: '0'.repeat(64) }, 'ROUND_MISMATCH'],
    ['beyond the plan, which has no evaluation', { round: plan.rounds + 1 }, 'ROUND_MISMATCH'],
    ['whose state hash is of other weights', { intercept: 1 }, 'ROUND_MISMATCH'],
    ['with weights that are not numbers', { weights: nan }, 'MESSAGE_MALFORMED'],
    ['with too few weights', { weights: new Uint8Array(), stateHash: stateHash(NO_WEIGHTS) }, 'MESSAGE_MALFORMED'],
  ])('%s releases nothing', async (_name, changes, code) => {
    await expect(doRound(session, round(changes))).rejects.toMatchObject({ code });
    expect(bank.released).toEqual([]);
  });

  test('of evaluation is released as a score histogram, and none after it', async () => {
    const evaluation: TrainingPlan['evaluation'] = { holdout: 0.2, share: 0.2, bins: 64 };
    const evaluated = makePlan(consortium, { evaluation });
    session.plans.set(plan.id, planKnownAs(session, courseFor(evaluated, contract)));
    const changes = { planHash: planHash(evaluated), round: plan.rounds + 1 };
    await expect(doRound(session, round(changes))).rejects.toMatchObject({ code: 'AGGREGATOR_UNREACHABLE' });
    expect(bank.released).toEqual([plan.rounds + 1]);
    const beyond = round({ ...changes, round: plan.rounds + 2 });
    await expect(doRound(session, beyond)).rejects.toMatchObject({ code: 'ROUND_MISMATCH' });
  });

  test('of the plan is released', async () => {
    await expect(doRound(session, round())).rejects.toMatchObject({ code: 'AGGREGATOR_UNREACHABLE' });
    expect(bank.released).toEqual([1]);
  });
});

describe('a model', () => {
  const body = (modelHash?: string) => {
    const modelJson = canonicalBytes({ format: 'anything' });
    return { planId: plan.id, planHash: hash, modelJson, modelHash: modelHash ?? sha256Hex(modelJson) };
  };
  const end = (model: ReturnType<Party['seal']>) =>
    endPlan(session, create(PlanEndedSchema, { planId: plan.id, planHash: hash, state: 'completed', model }));
  const id = modelMessageId(hash);

  test.each([
    ['that does not match its hash', () => aggregator.seal('model', id, body('0'.repeat(64)))],
    ['signed by another party', () => operator.seal('model', id, body())],
    ['under another message id', () => aggregator.seal('model', 'model/other', body())],
  ])('%s is not adopted', async (_name, forged) => {
    await expect(end(forged())).rejects.toMatchObject({ code: 'MESSAGE_SIGNATURE' });
    expect(bank.adopted.size).toBe(0);
  });

  test('the aggregator signed is adopted', async () => {
    // Adopting comes before telling the aggregator, which is what fails here.
    await expect(end(aggregator.seal('model', id, body()))).rejects.toThrow();
    expect(bank.adopted.get(plan.id)).toEqual({ format: 'anything' });
  });
});
