/** A consortium for tests: keys, certificate, roster, a small contract, and banks with seeded data and seeded noise. */
import type { AggregatorEvent } from '../../federated/aggregator/desk.ts';
import { type Aggregator, startAggregator } from '../../federated/aggregator/server.ts';
import type { ModelEvidence } from '../../federated/protocol/client.ts';
import { Party } from '../../federated/protocol/envelope.ts';
import { IdentityKey } from '../../federated/protocol/identity.ts';
import { AGGREGATOR, checkRoster, OPERATOR, type Roster } from '../../federated/protocol/roster.ts';
import {
  type Authority,
  createAuthority,
  createCertificateRequest,
  createTlsKey,
  issueCertificate,
} from '../../federated/provision/certificate.ts';
import { contractHash, layoutOf, parseContract } from '../../src/contract/contract.ts';
import { PrivacyError } from '../../src/errors.ts';
import type { BinnedData } from '../../src/learning/binned.ts';
import type { FederatedPlan } from '../../src/learning/federatedPlan.ts';
import { defaultPlan, parsePlan, type TrainingPlan } from '../../src/learning/plan.ts';
import { siteRelease } from '../../src/learning/siteRelease.ts';
import { openLog } from '../../src/log.ts';
import { type ParticipantOptions, runParticipant } from '../../src/participant/participant.ts';
import type { ParticipantPort, ReleaseTask, SumRelease } from '../../src/participant/port.ts';
import type { RandomSource } from '../../src/random.ts';

export const quiet = openLog('test', 'silent');

const reason = (code: string) => ({ code, text: `Because of ${code}` });

export const contract = parseContract({
  format: 'veilrisk-contract/1',
  name: 'federation-test',
  version: 1,
  title: 'Federation test',
  synthetic: true,
  fields: [
    { name: 'amount', kind: 'numeric', min: 0, max: 100, scale: 'linear', bins: 8, reason: reason('R01') },
    { name: 'channel', kind: 'categorical', categories: ['web', 'shop', 'phone'], reason: reason('R02') },
    { name: 'abroad', kind: 'boolean', reason: reason('R03') },
  ],
  label: { name: 'fraud', positive: ['1'], negative: ['0'] },
  subject: null,
  time: null,
  maxRecordsPerSubject: 1,
  csv: { header: true, delimiter: ',', comment: null, trim: true, missing: [] },
});

/** splitmix32: a seeded source, for tests only. */
function seeded(seed: number): RandomSource {
  let state = seed >>> 0;
  const nextUint32 = () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  };
  return {
    nextUint32,
    fill(out) {
      for (let index = 0; index < out.length; index++) out[index] = nextUint32() & 0xff;
    },
  };
}

export interface Consortium {
  roster: Roster;
  operator: IdentityKey;
  aggregator: IdentityKey;
  sites: { id: string; key: IdentityKey }[];
  tls: { key: string; certificate: string };
}

/** Issues like `provision sign`, at a clock of the test's choice. */
export async function issueMember(
  authority: Authority,
  name: string,
  options: { hosts?: readonly string[]; now?: Date } = {},
): Promise<{ key: IdentityKey; certificate: string }> {
  const tlsKey = await createTlsKey();
  const key = IdentityKey.create().withTls(tlsKey);
  const request = await createCertificateRequest(name, key.publicKey, tlsKey);
  const { hosts = null, now = new Date() } = options;
  const certificate = await issueCertificate({ authority, request, name, identityKey: key.publicKey, hosts, now });
  return { key, certificate };
}

/** As many sites as a test may ask for; made once a file, so that making a consortium stays synchronous. */
const MOST_SITES = 16;
export const authority = await createAuthority('Test consortium');
const enrolled = {
  operator: await issueMember(authority, OPERATOR),
  aggregator: await issueMember(authority, AGGREGATOR, { hosts: ['localhost', '127.0.0.1'] }),
  sites: await Promise.all(
    Array.from({ length: MOST_SITES }, async (_, index) => {
      const id = `bank-${index + 1}`;
      return { id, ...(await issueMember(authority, id)) };
    }),
  ),
};

/** Fresh identities; TLS keys and certificates are those of the file. */
export function makeConsortium(count: number, minimumQuorum = 2): Consortium {
  if (count > MOST_SITES) throw new TypeError(`a test consortium has at most ${MOST_SITES} sites`);
  const fresh = ({ key }: { key: IdentityKey }) => IdentityKey.create().withTls(key.tlsKey ?? '');
  const operator = fresh(enrolled.operator);
  const aggregator = fresh(enrolled.aggregator);
  const sites = enrolled.sites.slice(0, count).map((site) => ({ ...site, key: fresh(site) }));
  const tls = { key: aggregator.tlsKey ?? '', certificate: enrolled.aggregator.certificate };
  const roster = checkRoster({
    format: 'veilrisk-roster/2',
    consortium: 'Test consortium',
    version: 1,
    minimumQuorum,
    authority: authority.certificate,
    aggregator: { name: 'aggregator', identityKey: aggregator.publicKey, certificate: tls.certificate },
    operator: { identityKey: operator.publicKey, certificate: enrolled.operator.certificate },
    sites: sites.map(({ id, key, certificate }) => ({ id, identityKey: key.publicKey, certificate })),
    revoked: [],
  });
  return { roster, operator, aggregator, sites: sites.map(({ id, key }) => ({ id, key })), tls };
}

export const operatorParty = (c: Consortium) => new Party(c.roster, OPERATOR, c.operator);
export const aggregatorParty = (c: Consortium) => new Party(c.roster, AGGREGATOR, c.aggregator);
export const siteParty = (c: Consortium, index: number) => new Party(c.roster, c.sites[index].id, c.sites[index].key);

export function makePlan(c: Consortium, changes: Partial<TrainingPlan> = {}): TrainingPlan {
  const sites = c.sites.length;
  const base = defaultPlan({
    contract,
    epsilon: 4,
    delta: 1e-6,
    sites,
    quorum: c.roster.minimumQuorum,
    expectedRows: 4000,
  });
  return parsePlan({
    ...base,
    id: 'plan-1',
    rounds: 4,
    roundDeadlineMs: 5_000,
    contractHash: contractHash(contract),
    ...changes,
  });
}

export function startTestAggregator(
  c: Consortium,
  databaseUrl: string,
  port = 0,
  onEvent?: (event: AggregatorEvent) => void,
): Promise<Aggregator> {
  const { roster, aggregator: identity, tls } = c;
  // Tests speak for several members over one connection; mutualTls.test.ts starts one that refuses this.
  const options = { behindProxy: true, log: quiet, ...(onEvent ? { onEvent } : {}) };
  return startAggregator({ roster, identity, tls, databaseUrl, port, ...options });
}

function bankData(seed: number, rows: number): BinnedData {
  const { sizes } = layoutOf(contract);
  const random = seeded(seed);
  const bins = new Uint16Array(rows * sizes.length);
  const labels = new Uint8Array(rows);
  for (let row = 0; row < rows; row++) {
    sizes.forEach((size, k) => {
      bins[row * sizes.length + k] = random.nextUint32() % size;
    });
    labels[row] = random.nextUint32() / 2 ** 32 < bins[row * sizes.length] / (2 * sizes[0]) ? 1 : 0;
  }
  return { rows, sizes, bins, labels };
}

/** A bank in memory. Its noise is a function of bank and round, so that two runs can be compared bit for bit. */
export class MemoryBank implements ParticipantPort {
  readonly adopted = new Map<string, unknown>();
  readonly evidence = new Map<string, ModelEvidence>();
  readonly ended: string[] = [];
  readonly released: number[] = [];
  /** Attempt and agreement by plan and round. */
  readonly revealed = new Map<string, string>();
  readonly #seed: number;
  readonly #data: BinnedData;
  answer: (plan: FederatedPlan) => ReturnType<ParticipantPort['answerPlan']> = async () => ({ accepted: true });
  beforeRelease: (task: ReleaseTask) => Promise<void> = async () => {};

  constructor(seed: number) {
    this.#seed = seed;
    this.#data = bankData(seed, 1000);
  }

  answerPlan(plan: FederatedPlan) {
    return this.answer(plan);
  }

  async release(task: ReleaseTask) {
    await this.beforeRelease(task);
    const { plan, contract, round, weights } = task;
    this.released.push(round);
    const data = { training: this.#data, holdout: this.#data };
    const histogram = siteRelease(plan, contract, data, round, weights, seeded(this.#seed * 1000 + round));
    return { histogram, releaseId: `${plan.id}-${round}` };
  }

  /** Remembers like a node's database, over restarts of the participant. */
  async revealing({ planId, round, attempt, agreement }: SumRelease) {
    const sum = `${attempt} ${Buffer.from(agreement).toString('hex')}`;
    const before = this.revealed.get(`${planId} ${round}`);
    if (before !== undefined && before !== sum) {
      throw new PrivacyError('RELEASE_REPLAYED', 'another sum of this round was opened before', { where: planId });
    }
    this.revealed.set(`${planId} ${round}`, sum);
  }

  async adopt(model: unknown, evidence: ModelEvidence) {
    this.adopted.set(evidence.planId, model);
    this.evidence.set(evidence.planId, evidence);
  }

  async planEnded(planId: string, state: string, reason: string) {
    this.ended.push(`${planId}:${state}:${reason}`);
  }
}

export interface Running {
  bank: MemoryBank;
  stop(): Promise<void>;
}

export function runBank(c: Consortium, index: number, url: string, bank = new MemoryBank(index + 1)): Running {
  const ending = new AbortController();
  const { id: site, key: identity } = c.sites[index];
  const options: ParticipantOptions = {
    roster: c.roster,
    site,
    identity,
    port: bank,
    url,
    log: quiet,
    signal: ending.signal,
  };
  const running = runParticipant(options);
  running.catch(() => {});
  return {
    bank,
    async stop() {
      ending.abort();
      await running;
    },
  };
}

/** Polls until `check` is true; fails before the test's own timeout (60 s) does, and says so. */
export async function until(check: () => boolean | Promise<boolean>, ms = 50_000): Promise<void> {
  const end = performance.now() + ms;
  while (!(await check())) {
    if (performance.now() > end) throw new TypeError('the condition did not come true in time');
    await new Promise((done) => setTimeout(done, 10));
  }
}
