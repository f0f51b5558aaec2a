/**
 * The attacks of test/encryption/attackSuite.ts over HTTP: against a node whose pool leaves out a protection, where they
 * return the weights, and against the real node (API, metering, Postgres, two worker threads), where they do not.
 */
import { afterAll } from '@jest/globals';
import { type RunningApi, serveApi } from '../../src/api/server.ts';
import { layoutOf } from '../../src/contract/contract.ts';
import { openEncryption } from '../../src/encryption/encryption.ts';
import { sealRuntime } from '../../src/encryption/seal.ts';
import { modelHash } from '../../src/learning/scorecard.ts';
import { flatWeights } from '../../src/learning/site.ts';
import { openLog } from '../../src/log.ts';
import { createApiKey } from '../../src/operations/apiKeys.ts';
import { adoptModel } from '../../src/operations/models.ts';
import { type EncryptionPool, openEncryptionPool } from '../../src/workers/encryptionPool.ts';
import type { Service } from '../encryption/attacker.ts';
import { attackSuite } from '../encryption/attackSuite.ts';
import { openStripped, type Stripped } from '../encryption/strippedScorer.ts';
import { openTestNode } from '../operations/node.ts';
import { smallContract, smallDimension, smallModel } from '../operations/smallModel.ts';
import { usePostgres } from '../support/postgres.ts';

const postgres = usePostgres();
const model = smallModel([3.25, -1.5, 0, 2 ** -16, 0.75, -3.5, 0.125], 1.5);
const closers: (() => Promise<void>)[] = [];

afterAll(async () => {
  for (const close of closers.reverse()) await close();
});

attackSuite(async () => {
  const encryption = await openEncryption('standard');
  const runtime = await sealRuntime('standard');
  const key = encryption.createKeys();
  const real = openEncryptionPool({ threads: 2, timeoutMs: 30_000, queueLimit: 16, log: openLog('test', 'silent') });
  closers.push(() => real.close());
  await real.warmed;
  // What the stripped node scores with, chosen by each test.
  let how: Awaited<ReturnType<typeof openStripped>> | undefined;
  const stripped: EncryptionPool = {
    ...real,
    // Copies: SEAL's binding takes no Buffer.
    score: async ({ publicKey, request, ...job }) =>
      how!({ model: job.model, publicKey: new Uint8Array(publicKey), request: new Uint8Array(request) }),
  };

  /** A node of its own on `pool`, with model, caller and key. */
  async function serve(pool: EncryptionPool): Promise<Service> {
    const node = await openTestNode(await postgres.freshDatabase(), pool);
    closers.push(() => node.close());
    await adoptModel(node, { contract: smallContract, model, actor: 'test' });
    const api: RunningApi = await serveApi(node, { host: '127.0.0.1', port: 0 });
    closers.push(() => api.close());
    const caller = await createApiKey(node, { name: 'caller', scopes: ['score', 'keys'], actor: 'test' });
    const post = (path: string, body: Uint8Array) =>
      fetch(`${api.url}${path}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${caller.key}`, 'content-type': 'application/octet-stream' },
        body: body as Uint8Array<ArrayBuffer>,
      });
    await post('/v1/keys', key.publicKey);
    return async (request) => {
      const response = await post('/v1/scores/encrypted', request);
      if (!response.ok) return { refused: await response.text() };
      return { reply: new Uint8Array(await response.arrayBuffer()) };
    };
  }

  const hash = modelHash(model);
  const strippedService = await serve(stripped);
  return {
    attacker: {
      ...{ runtime, encryption, key },
      target: { dimension: smallDimension, contractHash: model.contractHash, modelHash: hash },
    },
    model: { hash, weights: flatWeights(model, layoutOf(smallContract).sizes), intercept: model.intercept },
    real: await serve(real),
    async stripped(left: Stripped) {
      how = await openStripped(runtime, left);
      return strippedService;
    },
  };
});
