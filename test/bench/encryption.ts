/**
 * Encrypted scoring on one thread: the bars of encryption.md, section 8, beside a server that only multiplies.
 *
 * The reference does the same multiplications and additions through the same library and leaves out everything that
 * protects the model, so the ratio is the price of that protection. End-to-end figures include encryption, frames and
 * decryption in this process, not HTTP.
 */
import { type Encryption, openEncryption, type SecretKey, type SparseVector } from '../../src/encryption/encryption.ts';
import { columnWeight, rowWeights } from '../../src/encryption/model.ts';
import { LOGIT_ERROR_CONTRACT, type PresetName } from '../../src/encryption/presets.ts';
import { loadPlaintext, Scope, sealRuntime } from '../../src/encryption/seal.ts';
import { type LayoutName, readFrame, requestBytes } from '../../src/encryption/wire.ts';
import { systemRandom } from '../../src/random.ts';
import { exactLogit, headerOf, modelOf, seededRandom } from '../encryption/support.ts';
import { openReport } from './report.ts';

const MEMORY_REQUESTS = Number(process.env.BENCH_MEMORY_REQUESTS ?? 100_000);

const report = openReport('encrypted scoring (one thread)');
const random = seededRandom(2026);

function percentile(times: readonly number[], share: number): number {
  return times.toSorted((a, b) => a - b)[Math.min(times.length - 1, Math.floor(share * times.length))];
}

/** Milliseconds of each run, after some that are not counted. */
function time(runs: number, step: () => void, between: () => void = () => {}): number[] {
  const times: number[] = [];
  for (let i = 0; i < runs + Math.ceil(runs / 5); i++) {
    between();
    const start = performance.now();
    step();
    times.push(performance.now() - start);
  }
  return times.slice(-runs);
}

interface Case {
  encryption: Encryption;
  key: SecretKey;
  layout: LayoutName;
  dimension: number;
  transactions: number;
  fields: number;
  runs: number;
}

async function measure({ encryption, key, layout, dimension, transactions, fields, runs }: Case) {
  const model = modelOf(
    Array.from({ length: dimension }, () => 16 * random.unit() - 8),
    -2,
  );
  const vectors: SparseVector[] = Array.from({ length: transactions }, () =>
    Array.from({ length: fields }, (_, k) => [Math.floor(((k + random.unit()) * dimension) / fields), 1] as const),
  );
  const scorer = encryption.openScorer(systemRandom());
  const header = headerOf(key, model, layout, transactions);
  const request = encryption.encryptRequest(key, header, vectors);
  let reply = scorer.score(model, key.publicKey, request);
  const server = time(
    runs,
    () => {
      reply = scorer.score(model, key.publicKey, request);
    },
    () => scorer.refill(),
  );
  const unpooled = time(Math.ceil(runs / 2), () => {
    scorer.score(model, key.publicKey, request);
  });
  const whole = time(
    Math.ceil(runs / 2),
    () => {
      const frame = encryption.encryptRequest(key, header, vectors);
      encryption.decryptReply(key, header, scorer.score(model, key.publicKey, frame));
    },
    () => scorer.refill(),
  );
  const reference = await plainTimes(encryption.preset.name, model, layout, request, runs);
  const logits = encryption.decryptReply(key, header, reply);
  const worst = vectors.reduce((most, v, i) => Math.max(most, Math.abs(logits[i] - exactLogit(model, v))), 0);
  scorer.close();
  return { server, unpooled, whole, reference, worst, up: request.length, down: reply.length };
}

/** Loading, multiplying, adding and saving, and nothing else. */
async function plainTimes(
  preset: PresetName,
  model: ReturnType<typeof modelOf>,
  layout: LayoutName,
  request: Uint8Array,
  runs: number,
) {
  const runtime = await sealRuntime(preset);
  const { parts } = readFrame('request', request);
  using scope = new Scope();
  const row = scope.own(loadPlaintext(runtime, rowWeights(runtime, model)));
  const term = scope.own(new runtime.seal.Ciphertext());
  const sum = scope.own(new runtime.seal.Ciphertext());
  const weight = scope.own(new runtime.seal.Plaintext());
  return time(runs, () => {
    for (const [j, part] of parts.entries()) {
      term.loadFromArray(runtime.context, part);
      if (layout === 'row') {
        runtime.evaluator.multiplyPlainInplace(term, row);
        term.saveToArray(runtime.seal.ComprModeType.none);
        continue;
      }
      weight.loadFromArray(runtime.context, columnWeight(runtime.preset, model.weights[j]));
      runtime.evaluator.multiplyPlainInplace(term, weight);
      if (j === 0) sum.assign(term);
      else runtime.evaluator.addInplace(sum, term);
    }
    if (layout === 'column') sum.saveToArray(runtime.seal.ComprModeType.none);
  });
}

for (const preset of ['standard', 'conservative'] as const) {
  const encryption = await openEncryption(preset);
  const key = encryption.createKeys();
  const isBarred = preset === 'standard';
  const add = (name: string, value: number, unit: string, atMost?: number) =>
    report.add({
      name: `${preset}: ${name}`,
      value,
      unit,
      ...(atMost === undefined || !isBarred ? {} : { bar: { atMost } }),
    });

  const column = await measure({
    encryption,
    key,
    layout: 'column',
    dimension: 30,
    transactions: 2048,
    fields: 10,
    runs: 20,
  });
  add('column 2,048 x 30, server', (1000 * percentile(column.server, 0.5)) / 2048, 'us/transaction', 15);
  add('column 2,048 x 30, multiply only', (1000 * percentile(column.reference, 0.5)) / 2048, 'us/transaction');
  add(
    'column 2,048 x 30, server / multiply only',
    percentile(column.server, 0.5) / percentile(column.reference, 0.5),
    'ratio',
  );

  const row = await measure({ encryption, key, layout: 'row', dimension: 30, transactions: 1, fields: 10, runs: 200 });
  add('row 1 x 30, server p50', percentile(row.server, 0.5), 'ms', 2);
  add('row 1 x 30, server p95', percentile(row.server, 0.95), 'ms');
  add('row 1 x 30, server without pool p50', percentile(row.unpooled, 0.5), 'ms');
  add('row 1 x 30, multiply only p50', percentile(row.reference, 0.5), 'ms');
  add('row 1 x 30, server / multiply only', percentile(row.server, 0.5) / percentile(row.reference, 0.5), 'ratio');
  add('row 1 x 30, encrypt + server + decrypt p50', percentile(row.whole, 0.5), 'ms', 15);
  add('row, bytes up', row.up, 'bytes', 66_000);
  add('row, bytes down', row.down, 'bytes');

  const wide = await measure({
    encryption,
    key,
    layout: 'row',
    dimension: 1000,
    transactions: 1,
    fields: 30,
    runs: 100,
  });
  add('row 1 x 1,000 one-hot, server p50', percentile(wide.server, 0.5), 'ms', 2.5);

  // Where the server's work for a full column is spread over enough transactions to beat rows.
  const full = await measure({
    encryption,
    key,
    layout: 'column',
    dimension: 350,
    transactions: 64,
    fields: 14,
    runs: 4,
  });
  const packed = await measure({
    encryption,
    key,
    layout: 'row',
    dimension: 350,
    transactions: 110,
    fields: 14,
    runs: 6,
  });
  const perRow = percentile(packed.unpooled, 0.5) / 110;
  add('column of 350 one-hot, server p50', percentile(full.server, 0.5), 'ms');
  add('row of 350 one-hot, packed, server', 1000 * perRow, 'us/transaction');
  add('crossover in server work at 350 one-hot', percentile(full.server, 0.5) / perRow, 'transactions');
  const bytesOf = (layout: LayoutName) => requestBytes({ preset, layout, transactions: 110, dimension: 350 });
  add('crossover in bytes up at 350 one-hot', (110 * bytesOf('column')) / bytesOf('row'), 'transactions');

  add('worst |logit error| row', Math.max(row.worst, wide.worst, packed.worst), 'logit', LOGIT_ERROR_CONTRACT);
  add('worst |logit error| column', Math.max(column.worst, full.worst), 'logit', LOGIT_ERROR_CONTRACT);
  add('public key', key.publicKey.length, 'bytes', 100_000);
}

await measureMemory();
report.finish();

/** Resident memory after the first thousandth of the requests and at the end, row requests on one scorer. */
async function measureMemory(): Promise<void> {
  const encryption = await openEncryption('standard');
  const key = encryption.createKeys();
  const scorer = encryption.openScorer(systemRandom());
  const model = modelOf(new Float64Array(350).fill(0.5));
  const request = encryption.encryptRequest(key, headerOf(key, model, 'row', 1), [[[1, 1]]]);
  const warm = Math.max(200, MEMORY_REQUESTS / 50);
  let before = 0;
  for (let i = 0; i < warm + MEMORY_REQUESTS; i++) {
    if (i === warm) before = process.memoryUsage().rss;
    scorer.score(model, key.publicKey, request);
    scorer.refill();
  }
  const after = process.memoryUsage().rss;
  scorer.close();
  report.add({ name: 'memory: requests', value: MEMORY_REQUESTS, unit: 'requests' });
  report.add({ name: 'memory: resident at the end', value: after / 2 ** 20, unit: 'MiB' });
  report.add({ name: 'memory: growth', value: (100 * (after - before)) / before, unit: '%', bar: { atMost: 5 } });
}
