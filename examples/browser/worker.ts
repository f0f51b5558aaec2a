/**
 * The SDK in a Web Worker: keys, encryption and decryption happen here and the page stays responsive.
 *
 * In a project of your own the two imports of the SDK are `from './client.js'`, the file `npm run build:client` makes;
 * the example's server serves exactly that file.
 */
import {
  type Client,
  createClient,
  createKeys,
  type Progress,
  type SecretKey,
  type ServedModel,
  type StreamedScore,
} from '../../src/client/client.ts';
import { openKeyFile, sealKeyFile } from '../../src/client/keyFile.ts';
import { readTable } from './csv.ts';
import type { Calls, Failure, FromWorker, RegisteredKey, ScoredOne, ToWorker } from './messages.ts';
import { watchFetch } from './traffic.ts';

type Handlers = {
  [Name in keyof Calls]: (input: Calls[Name]['input'], id: number) => Promise<Calls[Name]['output']>;
};

/** Rows of a request and of a message to the page: small, so that the bar moves. The SDK's own choice is faster. */
const BATCH = 256;

let access = { url: '', apiKey: '' };
let model: ServedModel | undefined;
let client: Client | undefined;
let running: AbortController | undefined;
const traffic = watchFetch();

const handlers: Handlers = {
  async connect(input) {
    access = input;
    client = undefined;
    // One repeat: whoever waits here wants to know soon.
    const models = await createClient({ ...access, retries: 1 }).models();
    model = models.find(({ status }) => status === 'champion');
    if (model === undefined) throw failure('NO_MODEL', 'The node has no model yet.');
    return model;
  },

  async createKey({ passphrase }) {
    const start = performance.now();
    const key = await createKeys('standard');
    // Safe: the SDK's bytes are never in shared memory.
    const file = (await sealKeyFile(key, passphrase)) as Uint8Array<ArrayBuffer>;
    return { ...(await register(key, performance.now() - start)), file };
  },

  async openKey({ file, passphrase }) {
    const start = performance.now();
    const key = await openKeyFile(file, passphrase);
    return register(key, performance.now() - start);
  },

  async score({ transaction }) {
    const start = performance.now();
    const sent = traffic.start();
    const [result] = await usable().scoreEncrypted([transaction]);
    return { result, ...accountOf(sent, start, performance.now()) };
  },

  async scoreTable(input, id) {
    const contract = model?.contract;
    if (contract === undefined) throw failure('NOT_CONNECTED', 'Connect to the node first.');
    const rows = 'text' in input ? readTable(contract, input.text) : input.transactions;
    running = new AbortController();
    const start = performance.now();
    let progress: Progress = { scored: 0, invalid: 0, requests: 0, retries: 0, bytesUp: 0, bytesDown: 0 };
    let scored: StreamedScore[] = [];
    const flush = () => {
      post({ id, scored, rows: rows.length });
      scored = [];
    };
    const onProgress = (now: Progress) => {
      progress = { ...now };
    };
    try {
      const stream = usable().scoreEncryptedStream(rows, {
        batch: BATCH,
        signal: running.signal,
        onInvalid: 'report',
        onProgress,
      });
      for await (const one of stream) {
        scored.push(one);
        if (scored.length >= BATCH) flush();
      }
    } finally {
      flush();
      running = undefined;
    }
    return { ...progress, tookMs: performance.now() - start };
  },

  async cancel() {
    running?.abort();
    return null;
  },
};

async function register(secretKey: SecretKey, keyMs: number): Promise<RegisteredKey> {
  const start = performance.now();
  const withKey = createClient({ ...access, secretKey });
  const reply = await withKey.registerKey();
  client = withKey;
  return { reply, keyMs, registerMs: performance.now() - start };
}

function usable(): Client {
  if (client !== undefined) return client;
  throw failure('NO_KEY', 'Make or open a key first.');
}

/** The time between the SDK's own requests is its own work: before a request encryption, after it decryption. */
function accountOf(
  sent: ReturnType<typeof traffic.start>,
  start: number,
  end: number,
): Pick<ScoredOne, 'steps' | 'frame' | 'bytesDown'> {
  const steps: ScoredOne['steps'] = [];
  const last = sent.at(-1);
  let before = start;
  for (const request of sent) {
    if (request === last) steps.push({ name: 'Encrypt', ms: request.sentAt - before });
    steps.push({
      name: request === last ? 'Network and node' : 'Contract',
      ms: request.answeredAt - request.sentAt,
    });
    before = request.answeredAt;
  }
  steps.push({ name: 'Decrypt', ms: end - before });
  return { steps, frame: last?.body ?? new Uint8Array(), bytesDown: last?.bytesDown ?? 0 };
}

function failure(code: string, message: string): Failure {
  return { code, message, issues: [] };
}

/** An error of the SDK has a code, often a fix and one issue per wrong field; its message holds no value. */
function failureOf(error: unknown): Failure {
  if (typeof error !== 'object' || error === null) return failure('UNKNOWN', 'Something went wrong.');
  const { code, serviceCode, message, fix, issues } = error as Partial<Failure> & { serviceCode?: string };
  return {
    code: serviceCode ?? code ?? 'UNKNOWN',
    message: message ?? 'Something went wrong.',
    ...(fix === undefined ? {} : { fix }),
    issues: issues ?? [],
  };
}

function post(message: FromWorker): void {
  self.postMessage(message);
}

self.onmessage = async ({ data }: MessageEvent<ToWorker>) => {
  const { id, name, input } = data;
  try {
    // Safe: `ToWorker` pairs each name with its input.
    post({ id, output: await (handlers[name] as (input: unknown, id: number) => Promise<never>)(input, id) });
  } catch (error) {
    post({ id, failure: failureOf(error) });
  }
};
