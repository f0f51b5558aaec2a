/**
 * A small HTTP node with the real scorer: models that change, a meter by frame, keys, and faults on demand.
 *
 * Limit: it keeps everything in memory and knows one caller; the real API is tested in test/api and in `node.test.ts`.
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { binRecord, type Contract, contractHash, layoutOf, parseContract } from '../../src/contract/contract.ts';
import { inspectPublicKey, openEncryption } from '../../src/encryption/encryption.ts';
import type { LinearModel } from '../../src/encryption/model.ts';
import { readFrameHeader } from '../../src/encryption/wire.ts';
import { systemRandom } from '../../src/random.ts';
import { modelOf, seededRandom } from '../encryption/support.ts';

const reason = (code: string) => ({ code, text: `Reason ${code}` });

export function contractOf(version: number, channels: readonly string[]): Contract {
  return parseContract({
    format: 'veilrisk-contract/1',
    name: 'client-test',
    version,
    title: 'Contract of the client tests',
    synthetic: true,
    fields: [
      { kind: 'numeric', name: 'amount', min: 0, max: 1000, scale: 'linear', bins: 10, reason: reason('AMOUNT') },
      { kind: 'categorical', name: 'channel', categories: channels, reason: reason('CHANNEL') },
      { kind: 'boolean', name: 'abroad', reason: reason('ABROAD') },
    ],
    label: { name: 'fraud', positive: ['1'], negative: ['0'] },
    subject: null,
    time: null,
    maxRecordsPerSubject: 1,
    csv: { header: true, delimiter: ',', comment: null, trim: true, missing: [] },
  });
}

export interface TestModel {
  readonly contract: Contract;
  readonly linear: LinearModel;
}

export function testModel(contract: Contract, name: string): TestModel {
  const random = seededRandom(Number.parseInt(name, 16));
  const weights = Array.from({ length: layoutOf(contract).total }, () => 4 * random.unit() - 2);
  return { contract, linear: modelOf(weights, -0.5, name) };
}

export const scaling = { anchorLogit: -1, anchorScore: 500, pointsToDouble: 50, residualBound: 0.6 };

export function exactLogit({ contract, linear }: TestModel, record: Record<string, unknown>): number {
  const { offsets } = layoutOf(contract);
  return binRecord(contract, record).bins.reduce(
    (sum, bin, k) => sum + linear.weights[offsets[k] + bin],
    linear.intercept,
  );
}

/**
 * What happens to one encrypted request: `lost` before it is read, `unanswered` and `cut` after it was counted, `twice`
 * by a proxy that sends it again, `slow`, `stalled` until the caller gives up, or a status.
 */
export type Fault = 'lost' | 'unanswered' | 'cut' | 'twice' | 'slow' | 'stalled' | 502 | 503 | 504;

export interface SmallNode {
  readonly url: string;
  /** The champion that is listed and the one that scores; they differ between a change and its listing. */
  listed: TestModel;
  served: TestModel;
  /** Taken one a request to the encrypted route, in order. */
  faults: Fault[];
  retryAfter: string;
  /** Answers in place of the node when it returns true. */
  answer?: ((request: IncomingMessage, response: ServerResponse) => boolean) | undefined;
  /** Called with the number of each encrypted request before it is worked on. */
  onRequest?: ((count: number) => void) | undefined;
  readonly seen: { path: string; method: string; headers: IncomingMessage['headers']; bytes: number; tag: string }[];
  /** Frames that were answered, with their transactions: the meter. */
  readonly metered: Map<string, number>;
  /** Encrypted requests at work now, and the most at once. */
  active: number;
  mostActive: number;
  /** Encrypted requests that the caller gave up. */
  abandoned: number;
  reset(model: TestModel): void;
  close(): Promise<void>;
}

export async function openSmallNode(model: TestModel): Promise<SmallNode> {
  const encryption = await openEncryption('standard');
  const scorer = encryption.openScorer(systemRandom());
  const registered = new Map<string, { publicKey: Uint8Array; state: Record<string, unknown> }>();
  const audit = { index: 0, leafHash: '00'.repeat(32) };

  const server = createServer((request, response) => {
    handle(request, response).catch(() => response.destroy());
  });

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url!;
    const encrypted = path === '/v1/scores/encrypted';
    const fault = encrypted ? node.faults.shift() : undefined;
    if (fault === 'lost') return void request.socket.destroy();
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = new Uint8Array(Buffer.concat(chunks));
    const tag = createHash('sha256').update(body).digest('hex');
    node.seen.push({ path, method: request.method!, headers: request.headers, bytes: body.length, tag });
    const json = (status: number, document: unknown, headers: Record<string, string> = {}) => {
      response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(document));
    };
    if (node.answer?.(request, response)) return;
    if (path === '/v1/models') return json(200, { models: [listing(node.listed)] });
    if (path === '/v1/usage') {
      const vectors = [...node.metered.values()].reduce((sum, count) => sum + count, 0);
      const of = { hash: node.served.linear.hash, status: 'champion' };
      return json(200, { usage: [{ model: of, vectors, limit: 1000, left: 1000 - vectors }] });
    }
    if (path.startsWith('/v1/keys')) return keys(request.method!, path, body, json);
    if (!encrypted) return json(404, { code: 'ROUTE_UNKNOWN', title: 'no such route' });

    node.onRequest?.(node.seen.filter((one) => one.path === path).length);
    node.mostActive = Math.max(node.mostActive, ++node.active);
    response.on('close', () => {
      node.active--;
      if (!response.writableFinished && fault !== 'unanswered' && fault !== 'cut') node.abandoned++;
    });
    if (typeof fault === 'number') {
      return json(fault, { code: 'POOL_FULL', title: 'busy' }, { 'retry-after': node.retryAfter });
    }
    if (fault === 'stalled') return;
    if (fault === 'slow') await sleep(30);
    const header = readFrameHeader('request', body);
    const champion = node.served;
    if (header.modelHash !== champion.linear.hash) {
      node.listed = champion;
      return json(409, { code: 'MODEL_CONTRACT_MISMATCH', detail: 'another model' });
    }
    const key = registered.get(header.keyId);
    if (key === undefined) return json(404, { code: 'KEY_UNKNOWN', detail: 'not registered', where: 'key id' });
    if (fault === 'twice') scorer.score(champion.linear, key.publicKey, body);
    const reply = scorer.score(champion.linear, key.publicKey, body);
    node.metered.set(tag, header.transactions);
    if (fault === 'unanswered') return void request.socket.destroy();
    response.writeHead(200, { 'content-type': request.headers['content-type']!, 'content-length': reply.length });
    if (fault === 'cut') return void response.write(reply.subarray(0, 1000), () => request.socket.destroy());
    response.end(reply);
  }

  async function keys(
    method: string,
    path: string,
    body: Uint8Array,
    json: (status: number, document: unknown) => void,
  ): Promise<void> {
    if (method === 'GET') return json(200, { keys: [...registered.values()].map(({ state }) => state) });
    const old = registered.get(path.split('/')[3]);
    if (method === 'DELETE') {
      if (old === undefined) return json(404, { code: 'KEY_UNKNOWN', title: 'unknown' });
      Object.assign(old.state, { revokedAt: '2026-01-02T00:00:00.000Z', standing: 'revoked' });
      return json(200, { ...old.state, audit });
    }
    const { keyId, preset } = await inspectPublicKey(body);
    const times = { createdAt: '2026-01-01T00:00:00.000Z', expiresAt: null, revokedAt: null };
    const state = { keyId, preset, ...times, replacedBy: null, standing: 'usable' };
    registered.set(keyId, { publicKey: body, state });
    if (!path.endsWith('/rotation')) return json(201, { ...state, audit });
    Object.assign(old!.state, { replacedBy: keyId, expiresAt: '2026-01-03T00:00:00.000Z' });
    json(201, { key: { ...state, audit }, replaced: old!.state });
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const node: SmallNode = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    listed: model,
    served: model,
    faults: [],
    retryAfter: '0',
    seen: [],
    metered: new Map(),
    active: 0,
    mostActive: 0,
    abandoned: 0,
    reset(champion) {
      Object.assign(node, { listed: champion, served: champion, faults: [], retryAfter: '0' });
      Object.assign(node, { answer: undefined, onRequest: undefined, mostActive: 0, abandoned: 0 });
      node.seen.length = 0;
      node.metered.clear();
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return node;
}

function listing({ contract, linear }: TestModel) {
  return {
    hash: linear.hash,
    status: 'champion',
    family: 'scorecard',
    contractHash: contractHash(contract),
    contract,
    scaling,
    decisionThresholds: { version: 1, hash: '00'.repeat(32), reviewFrom: 520, declineFrom: 640 },
    encryption: { presets: ['standard'], dimension: layoutOf(contract).total },
  };
}
