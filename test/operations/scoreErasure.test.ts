/** What remains of a scored transaction when the openings of its entry are deleted. */
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { canonicalBytes } from '../../src/canonical.ts';
import { connect } from '../../src/database/connection.ts';
import { createApiKey } from '../../src/operations/apiKeys.ts';
import { bodyHash } from '../../src/operations/bodyHash.ts';
import { adoptModel } from '../../src/operations/models.ts';
import { scoreTransaction } from '../../src/operations/scoreTransaction.ts';
import { usePostgres } from '../support/postgres.ts';
import { contract, openTestNode, simulated, type TestNode, trainedModel } from './node.ts';

const postgres = usePostgres();
let node: TestNode;
let url: string;

beforeAll(async () => {
  url = await postgres.freshDatabase();
  node = await openTestNode(url);
  await adoptModel(node, { contract, model: trainedModel(), actor: 'test' });
});

afterAll(async () => {
  await node?.close();
});

test('no unkeyed hash of the transaction stays in the database', async () => {
  const { prefix } = await createApiKey(node, { name: 'branch', scopes: ['score'], actor: 'test' });
  const { records } = simulated(1, 17);
  const body = { transaction: records[0], id: 'tx-1' };
  const request = { caller: { keyPrefix: prefix, owner: 'branch' }, requestId: 'r', ...body };
  const { reply } = await scoreTransaction(node, request);
  const guesses = [body, body.transaction].map((guess) =>
    createHash('sha256').update(canonicalBytes(guess)).digest('hex'),
  );
  const client = await connect(url);
  try {
    await client.query('DELETE FROM personal WHERE audit_index = $1', [reply.audit.index]);
    const { rows } = await client.query<{ row: string }>(
      `SELECT decisions::text AS row FROM decisions
        UNION ALL SELECT convert_from(bytes, 'UTF8') FROM audit_entries UNION ALL SELECT personal::text FROM personal`,
    );
    for (const { row } of rows) for (const guess of guesses) expect(row).not.toContain(guess);
    const { rows: held } = await client.query<{ body_hash: string }>('SELECT body_hash FROM decisions');
    expect(held).toEqual([{ body_hash: bodyHash(node.subjectKey, body) }]);
  } finally {
    await client.end();
  }
  expect(await scoreTransaction(node, request)).toMatchObject({ reply, replayed: true });
});

test('the hash differs from node to node and between bodies, and not with the order of members', () => {
  const [key, other] = [1, 2].map((fill) => new Uint8Array(32).fill(fill));
  const hash = bodyHash(key, { a: 1, b: 2 });
  expect(hash).toMatch(/^[0-9a-f]{64}$/);
  expect(bodyHash(key, { b: 2, a: 1 })).toBe(hash);
  expect(bodyHash(key, { a: 1, b: 3 })).not.toBe(hash);
  expect(bodyHash(other, { a: 1, b: 2 })).not.toBe(hash);
});
