/** Exported models: the runtime's logits against our own forward pass, and files that are not what was exported. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { afterEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { contractHash } from '../../src/contract/contract.ts';
import { DIGEST_KEY, digestOf, exportOnnx } from '../../src/inference/export.ts';
import { ModelProtoSchema } from '../../src/inference/generated/onnx_pb.js';
import { type OnnxModel, openSession } from '../../src/inference/session.ts';
import { planHash } from '../../src/learning/plan.ts';
import { denseHash, toFederatedDense } from '../../src/learning/sgd/model.ts';
import { contract } from '../learning/sgd/cases.ts';
import { densePlan } from '../learning/sgd/densePlans.ts';
import { wildModel } from './models.ts';

const opened: OnnxModel[] = [];
afterEach(async () => {
  for (const session of opened.splice(0)) await session.close();
});

async function open(bytes: Uint8Array): Promise<OnnxModel> {
  const session = await openSession(bytes);
  opened.push(session);
  return session;
}

test('logits and probabilities equal ours within 1e-5, on random and on real records', async () => {
  const script = join(import.meta.dirname, 'compare.ts');
  const { stdout } = await promisify(execFile)(process.execPath, [script], { timeout: 60_000 });
  const results: [string, { rows: number; span: number; worst: number | null }][] = Object.entries(JSON.parse(stdout));
  expect(results.length).toBeGreaterThanOrEqual(6);
  for (const [, { rows, span, worst }] of results) {
    expect(rows).toBeGreaterThanOrEqual(500);
    expect(span).toBeGreaterThan(1);
    // JSON writes NaN as null, which is no number below the bound.
    expect(worst).not.toBeNull();
    expect(worst).toBeLessThan(1e-5);
  }
});

test('the file of a model trained between banks names its plan', async () => {
  const plan = densePlan({ family: 'mlp' });
  const weights = Float64Array.from({ length: plan.dimension }, (_, i) => Math.sin(i));
  const model = toFederatedDense(weights, plan, planHash(plan), contract);
  const { metadataProps } = fromBinary(ModelProtoSchema, exportOnnx(model));
  const metadata = Object.fromEntries(metadataProps.map(({ key, value }) => [key, value]));
  expect(metadata).toMatchObject({ 'veilrisk.plan': planHash(plan), 'veilrisk.model': denseHash(model) });
  expect(metadata).not.toHaveProperty('veilrisk.settings');
  expect((await open(exportOnnx(model))).modelHash).toBe(denseHash(model));
});

describe.each(['logistic', 'mlp'] as const)('%s', (family) => {
  test('the file says whose it is', async () => {
    const model = wildModel(family, 'meta');
    expect(exportOnnx(model)).toEqual(exportOnnx(model));
    const session = await open(exportOnnx(model));
    expect(session.features).toEqual(model.features);
    expect(session.width).toBe(model.features.length);
    expect(session.contractHash).toBe(contractHash(contract));
    expect(session.modelHash).toBe(denseHash(model));
    const { metadataProps } = fromBinary(ModelProtoSchema, exportOnnx(model));
    expect(Object.fromEntries(metadataProps.map(({ key, value }) => [key, value]))).toMatchObject({
      'veilrisk.settings': expect.stringMatching(/^[0-9a-f]{64}$/),
      'veilrisk.mode': 'site',
      'veilrisk.epsilon': '1',
      'veilrisk.delta': '0.000001',
      'veilrisk.unit': 'customer',
    });
    for (const expected of [{ modelHash: '0'.repeat(64) }, { contractHash: '0'.repeat(64) }]) {
      await expect(openSession(exportOnnx(model), expected)).rejects.toMatchObject({ code: 'MODEL_CONTRACT_MISMATCH' });
    }
  });
});

describe('a file that is not what was exported is refused', () => {
  const bytes = exportOnnx(wildModel('mlp', 'x'));
  const refused = (changed: Uint8Array) =>
    expect(openSession(changed)).rejects.toMatchObject({ code: 'MODEL_INVALID' });

  test('any bit flipped, any end cut off, anything appended', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), fc.nat(7), async (at, bit) => {
        await refused(bytes.map((byte, i) => (i === at ? byte ^ (1 << bit) : byte)));
        await refused(bytes.slice(0, at));
      }),
      { numRuns: 300 },
    );
    await refused(Uint8Array.of(...bytes, 0));
    // An unknown field, well formed.
    await refused(Uint8Array.of(...bytes, 0xf8, 0x07, 1));
    await refused(new Uint8Array(0));
  });

  test('a consistent digest does not help a foreign graph, nor what the runtime refuses', async () => {
    const edited = async (edit: (proto: ReturnType<typeof read>) => void) => {
      const proto = read();
      edit(proto);
      const entry = proto.metadataProps.find(({ key }) => key === DIGEST_KEY);
      if (entry !== undefined) entry.value = digestOf(proto);
      await refused(toBinary(ModelProtoSchema, proto));
    };
    const read = () => fromBinary(ModelProtoSchema, bytes);
    await edited(({ graph }) => {
      graph!.node[0].opType = 'MatMul';
    });
    await edited(({ graph }) => {
      graph!.node[0].domain = 'com.example';
    });
    await edited(({ graph }) => void graph!.output.reverse());
    await edited(({ graph }) => void graph!.input.push(graph!.input[0]));
    await edited((proto) => {
      proto.graph = undefined;
    });
    await edited(({ metadataProps }) => void metadataProps.push(metadataProps[0]));
    await edited(({ metadataProps }) => {
      metadataProps.find(({ key }) => key === 'veilrisk.features')!.value = '["one"]';
    });
    // Left to the runtime: weights that are missing, and of another shape.
    await edited(({ graph }) => void graph!.initializer.pop());
    await edited(({ graph }) => {
      graph!.initializer[0].dims = [1n, 1n];
    });
  });
});

test('features of another shape and a closed session are refused; none is no record', async () => {
  const session = await open(exportOnnx(wildModel('logistic', 'y')));
  const refusal = { code: 'TRAINING_INPUT' };
  await expect(session.logits(new Float32Array(session.width + 1), 1)).rejects.toMatchObject(refusal);
  await expect(session.logits(new Float32Array(session.width), -1)).rejects.toMatchObject(refusal);
  expect(await session.logits(new Float32Array(0), 0)).toHaveLength(0);
  await session.close();
  await session.close();
  await expect(session.logits(new Float32Array(session.width), 1)).rejects.toMatchObject(refusal);
});
