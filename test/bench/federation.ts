/**
 * Speed and bytes of the federation: secure aggregation in process, and whole rounds between processes over mutual TLS on
 * the loopback. Bars: design page federation.md, section 9. Beside each stands the plain sum of the same run.
 *
 * `npm run bench:federation -- --json OUT`. Banks return integers that were drawn before: local training is left out, and
 * so is each bank's own database. Bars on times are those of an otherwise idle machine with two cores.
 */

import { create, toBinary } from '@bufbuild/protobuf';
import { SignedEnvelopeSchema, UpdateSchema } from '../../federated/protocol/generated/veilrisk_pb.js';
import { SumAggregator } from '../../federated/secagg/aggregator.ts';
import type { EpochContext, SealedShare } from '../../federated/secagg/epoch.ts';
import { EpochParticipant } from '../../federated/secagg/participant.ts';
import type { SumContext } from '../../federated/secagg/sum.ts';
import { contractHash, layoutOf, parseContract } from '../../src/contract/contract.ts';
import { updateBytes } from '../../src/learning/encoding/updateBytes.ts';
import { defaultPlan, parsePlan, type TrainingPlan, thresholdOf } from '../../src/learning/plan.ts';
import { systemRandom } from '../../src/random.ts';
import { measurePlans } from './federationRounds.ts';
import { openReport } from './report.ts';

const SITES = 10;
const DIMENSION = 4_096;
const ROUNDS = 50;
const WIRE_BITS = 20;

const report = openReport('federation');
const random = systemRandom();

await measureMasking();
await measureEpoch(10, 64);
await measureEpoch(100, 64);
await measureBytes();
await measureRounds();
report.finish();

interface Epoch {
  context: EpochContext;
  participants: EpochParticipant[];
  names: string[];
  keys: ReturnType<EpochParticipant['advertise']>[];
  /** Mean milliseconds of one site, and bytes it sends and receives. */
  site: { makeMs: number; sealMs: number; acceptMs: number; sent: number; received: number };
}

async function openEpoch(sites: number, slots: number): Promise<Epoch> {
  const names = Array.from({ length: sites }, (_, at) => `bank-${at + 1}`);
  const threshold = thresholdOf(sites, 'lying');
  const context: EpochContext = {
    ...{ rosterHash: new Uint8Array(32), planHash: '0'.repeat(64), epoch: 0, threshold, minimum: threshold, slots },
    roster: names,
  };
  const site = { makeMs: 0, sealMs: 0, acceptMs: 0, sent: 0, received: 0 };
  const participants = names.map((name) => new EpochParticipant(context, name, random));
  const keys: Epoch['keys'] = [];
  for (const participant of participants) site.makeMs += timed(() => void keys.push(participant.advertise())) / sites;
  const sealed: SealedShare[][] = [];
  for (const participant of participants) {
    const start = performance.now();
    sealed.push((await participant.seal(keys)).shares);
    site.sealMs += (performance.now() - start) / sites;
  }
  const keyBytes = keys[0].channelKey.length + keys[0].maskKeys.length;
  const shareBytes = sealed[0].reduce((sum, share) => sum + share.sealed.length, 0);
  site.sent = keyBytes + shareBytes;
  site.received = sites * keyBytes + shareBytes;
  participants.forEach((participant, at) => {
    const delivered = sealed.flatMap((shares, from) => {
      const share = shares.find((each) => each.site === names[at]);
      return share === undefined ? [] : [{ site: names[from], sealed: share.sealed }];
    });
    site.acceptMs += timed(() => participant.accept(delivered)) / sites;
  });
  return { context, participants, names, keys, site };
}

async function measureMasking(): Promise<void> {
  const dimension = 1_000_000;
  const { context, participants, names, keys } = await openEpoch(SITES, 4);
  const vectors = names.map(() =>
    Float64Array.from({ length: dimension }, () => (random.nextUint32() % 2_001) - 1_000),
  );
  const plain = new Float64Array(dimension);
  const plainMs = timed(() => {
    for (const vector of vectors) for (let at = 0; at < dimension; at++) plain[at] += vector[at];
  });
  for (const missing of [0, SITES - context.threshold]) {
    const slot = missing === 0 ? 0 : 1;
    const sum: SumContext = {
      ...{ round: slot + 1, attempt: 0, slot, stateHash: new Uint8Array(32), members: names, dimension },
      ...{ bits: WIRE_BITS, logHead: new Uint8Array(32) },
    };
    const aggregator = new SumAggregator(context, keys, sum);
    const masked: number[] = [];
    const inputs = participants.map((participant, at) => {
      const start = performance.now();
      const packed = participant.mask(sum, vectors[at]);
      masked.push(performance.now() - start);
      return packed;
    });
    const present = names.slice(missing);
    const addMs = timed(() => {
      for (const name of present) aggregator.input(name, inputs[names.indexOf(name)]);
    });
    const survivors = aggregator.closeInputs(context.minimum);
    const agreements = survivors.map((site) => {
      return { site, agreement: participants[names.indexOf(site)].agree(sum, survivors, context.minimum) };
    });
    for (const { site, agreement } of agreements) aggregator.agreement(site, agreement);
    for (const site of survivors) aggregator.reveal(site, participants[names.indexOf(site)].reveal(sum, agreements));
    const start = performance.now();
    const total = await aggregator.unmask();
    const unmaskMs = performance.now() - start;
    if (missing === 0) {
      const exact = total.every((value, at) => value === plain[at]);
      report.add({
        name: `unmasked sum of ${SITES} x 1,000,000 is exact`,
        value: exact ? 1 : 0,
        unit: '',
        bar: { atLeast: 1 },
      });
      report.add({
        name: `mask 1,000,000 numbers, ${SITES} sites: a site and round`,
        value: median(masked),
        unit: 'ms',
        bar: { atMost: 250 },
      });
    }
    const what = missing === 0 ? 'nobody missing' : `${missing} missing`;
    report.add({ name: `add ${present.length} masked inputs, ${what}`, value: addMs, unit: 'ms' });
    report.add({ name: `unmask, ${what}`, value: unmaskMs, unit: 'ms' });
  }
  report.add({ name: `plain sum of ${SITES} x 1,000,000 (reference)`, value: plainMs, unit: 'ms' });
}

async function measureEpoch(sites: number, slots: number): Promise<void> {
  const { site } = await openEpoch(sites, slots);
  const what = `key set-up, ${sites} sites, ${slots} slots: a site`;
  report.add({ name: what, value: site.makeMs + site.sealMs + site.acceptMs, unit: 'ms' });
  report.add({ name: `${what} sends`, value: site.sent, unit: 'bytes' });
  report.add({ name: `${what} receives`, value: site.received, unit: 'bytes' });
}

async function measureBytes(): Promise<void> {
  const { context, participants, names } = await openEpoch(SITES, 1);
  const sum: SumContext = {
    ...{ round: 1, attempt: 0, slot: 0, stateHash: new Uint8Array(32), members: names, dimension: DIMENSION },
    ...{ bits: WIRE_BITS, logHead: new Uint8Array(32) },
  };
  const values = participants[0].mask(sum, new Float64Array(DIMENSION));
  const update = create(UpdateSchema, {
    ...{
      planId: '0b9d3c1e-8a1f-4c55-9a43-0d2f5e6b7c8d',
      planHash: context.planHash,
      round: 1,
      stateHash: sum.stateHash,
    },
    outcome: {
      case: 'masked',
      value: {
        dimension: DIMENSION,
        bits: WIRE_BITS,
        values,
        epoch: 1,
        slot: 1,
        releaseId: '0b9d3c1e-8a1f-4c55/round-1',
      },
    },
    // As long as a cosignature line of the aggregator's log.
    cosignature: `\u2014 bank-1.example/veilrisk ${'A'.repeat(104)}`,
  });
  const envelope = create(SignedEnvelopeSchema, {
    ...{ body: toBinary(UpdateSchema, update), kind: 'update', signer: 'bank-1', signature: new Uint8Array(64) },
    messageId: `update/${context.planHash}/1/0`,
  });
  const sent = toBinary(SignedEnvelopeSchema, envelope).length;
  const payload = updateBytes(DIMENSION);
  report.add({
    name: `update of ${DIMENSION.toLocaleString('en-US')} numbers over its ${WIRE_BITS}-bit payload`,
    value: sent / payload.bits20,
    unit: 'x',
    bar: { atMost: 1.1 },
  });
  report.add({ name: 'the update', value: sent, unit: 'bytes' });
  for (const [name, bytes] of Object.entries(payload)) {
    report.add({ name: `payload of a round and site, ${name} (reference)`, value: bytes, unit: 'bytes' });
  }
}

/** A contract whose plans without knots release 4,096 numbers. */
function wideContract() {
  const fields = Array.from({ length: 16 }, (_, k) => ({
    ...{ name: `f${k}`, kind: 'numeric', min: 0, max: 1, scale: 'linear', bins: DIMENSION / 16 - 1 },
    reason: { code: `R${k}`, text: `Field ${k}` },
  }));
  const contract = parseContract({
    ...{ format: 'veilrisk-contract/1', name: 'bench', version: 1, title: 'Bench', synthetic: true, fields },
    ...{
      label: { name: 'label', positive: ['1'], negative: ['0'] },
      subject: null,
      time: null,
      maxRecordsPerSubject: 1,
    },
    csv: { header: true, delimiter: ',', comment: null, trim: true, missing: [] },
  });
  if (layoutOf(contract).total !== DIMENSION) throw new RangeError('the contract has another dimension');
  return contract;
}

async function measureRounds(): Promise<void> {
  const contract = wideContract();
  const planOf = (mode: TrainingPlan['mode'], id: string, rounds: number): TrainingPlan => {
    const quorum = thresholdOf(SITES, 'lying');
    const facts = { contract, epsilon: 1, delta: 1e-6, sites: SITES, quorum, mode, ringBits: WIRE_BITS };
    const defaults = defaultPlan({ ...facts, expectedRows: 40_000, id });
    const plan = { ...defaults, contractHash: contractHash(contract), knots: 0, rounds };
    return parsePlan({ ...plan, roundDeadlineMs: 60_000 });
  };
  // Half of the plain rounds before and half after the masked ones: whatever else the machine does meets both.
  const plans = [
    planOf('site', 'bench-plain-1', ROUNDS / 2),
    planOf('sum', 'bench-masked', ROUNDS),
    planOf('site', 'bench-plain-2', ROUNDS / 2),
  ];
  const [before, secure, after] = await measurePlans(contract, plans, SITES);
  const plain = [...before, ...after];
  const what = `round of ${SITES} sites, ${DIMENSION.toLocaleString('en-US')} numbers, mutual TLS`;
  report.add({ name: `${what}: median, secure aggregation`, value: median(secure), unit: 'ms', bar: { atMost: 150 } });
  report.add({ name: `${what}: median, plain sum (reference)`, value: median(plain), unit: 'ms' });
  report.add({ name: `${what}: slowest tenth, secure aggregation`, value: quantile(secure, 0.9), unit: 'ms' });
  report.add({
    name: 'secure aggregation over the plain sum, medians',
    value: median(secure) / median(plain),
    unit: 'x',
    bar: { atMost: 2 },
  });
}

function timed(work: () => void): number {
  const start = performance.now();
  work();
  return performance.now() - start;
}

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}
