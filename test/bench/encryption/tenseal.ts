/**
 * The same model and data through TenSEAL, where `python3 -c 'import tenseal'` works: one sample of 30 numeric features a
 * request, one thread, beside this project's row layout at preset `standard`.
 *
 * Limit: TenSEAL's reply does not hide the model; its server only multiplies and rotates.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { z } from 'zod';
import type { Encryption, SecretKey } from '../../../src/encryption/encryption.ts';
import { systemRandom } from '../../../src/random.ts';
import { exactLogit, headerOf } from '../../encryption/support.ts';
import type { BenchmarkReport } from '../report.ts';
import { anyModel, anyVectors, median } from './measure.ts';

const SAMPLES = 200;

const Answer = z.object({
  version: z.string(),
  results: z.array(
    z.object({
      name: z.string(),
      encryptMs: z.number(),
      serverMs: z.number(),
      decryptMs: z.number(),
      up: z.number(),
      down: z.number(),
      publicContext: z.number(),
      worstError: z.number(),
    }),
  ),
});

export function compareWithTenseal(report: BenchmarkReport, encryption: Encryption, key: SecretKey): void {
  if (spawnSync('python3', ['-c', 'import tenseal']).status !== 0) {
    process.stdout.write('TenSEAL is absent (python3 -c "import tenseal"): no comparison with it.\n');
    return;
  }
  const model = anyModel(30);
  const vectors = anyVectors(30, SAMPLES, 'numeric');
  const header = headerOf(key, model, 'row', 1);
  const scorer = encryption.openScorer(systemRandom());
  const ours = { encrypt: [] as number[], server: [] as number[], decrypt: [] as number[] };
  let [up, down, worst] = [0, 0, 0];
  for (const vector of vectors) {
    scorer.refill();
    const start = performance.now();
    const request = encryption.encryptRequest(key, header, [vector]);
    const encrypted = performance.now();
    const reply = scorer.score(model, key.publicKey, request);
    const scored = performance.now();
    const [logit] = encryption.decryptReply(key, header, reply);
    ours.decrypt.push(performance.now() - scored);
    ours.server.push(scored - encrypted);
    ours.encrypt.push(encrypted - start);
    worst = Math.max(worst, Math.abs(logit - exactLogit(model, vector)));
    [up, down] = [request.length, reply.length];
  }
  scorer.close();
  const task = {
    weights: Array.from(model.weights),
    intercept: model.intercept,
    vectors: vectors.map((vector) => vector.map(([, value]) => value)),
  };
  const child = spawnSync('python3', [join(import.meta.dirname, '../tensealPeer.py')], {
    input: JSON.stringify(task),
    encoding: 'utf8',
    maxBuffer: 2 ** 24,
  });
  if (child.status !== 0) {
    process.stdout.write(`TenSEAL did not finish: ${child.stderr.trim().split('\n').at(-1)}\n`);
    return;
  }
  const { version, results } = Answer.parse(JSON.parse(child.stdout));
  process.stdout.write(`TenSEAL ${version}: its reply does not hide the model, ours does.\n`);
  for (const theirs of results) {
    const add = (name: string, value: number, unit: string, own: number) => {
      report.add({ name: `TenSEAL ${theirs.name}: ${name}`, value, unit });
      report.add({ name: `TenSEAL ${theirs.name}: ${name}, theirs / ours`, value: value / own, unit: 'ratio' });
    };
    add('server p50', theirs.serverMs, 'ms', median(ours.server));
    add('encrypt p50', theirs.encryptMs, 'ms', median(ours.encrypt));
    add('decrypt p50', theirs.decryptMs, 'ms', median(ours.decrypt));
    add('bytes up', theirs.up, 'bytes', up);
    add('bytes down', theirs.down, 'bytes', down);
    add('public context with Galois keys', theirs.publicContext, 'bytes', key.publicKey.length);
    add('worst |logit error|', theirs.worstError, 'logit', worst);
  }
}
