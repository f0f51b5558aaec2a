import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { bytesToHex } from '../../src/audit/bytes.ts';
import { createLogSigner } from '../../src/audit/note.ts';
import { leafHash } from '../../src/audit/tree.ts';
import { verifyLog } from '../../src/audit/verifyLog.ts';
import { connect } from '../../src/database/connection.ts';
import { usePostgres } from '../support/postgres.ts';
import { openStore } from './node.ts';

const postgres = usePostgres();
const KILLS = 4;

/** Runs the child until `after` acknowledgements, kills it, and returns what it was told. */
function appendUntilKilled(args: string[], after: number): Promise<Map<number, string>> {
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, [join(import.meta.dirname, 'appendUntilKilled.ts'), ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    child.stdout.on('data', (chunk) => {
      said += chunk;
      if (said.split('\n').length > after) child.kill('SIGKILL');
    });
    child.once('error', fail);
    child.once('close', (_, signal) => {
      expect(signal).toBe('SIGKILL');
      const lines = said.slice(0, said.lastIndexOf('\n')).split('\n');
      done(new Map(lines.map((line) => [Number(line.split(' ')[0]), line.split(' ')[1]])));
    });
  });
}

describe('kill -9', () => {
  test('everything acknowledged is there, once, and the log verifies and grows on', async () => {
    const url = await postgres.freshDatabase();
    const keys = (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair;
    const signer = await createLogSigner('bank-a', keys);
    const base64 = async (format: 'pkcs8' | 'raw', key: CryptoKey) =>
      Buffer.from(await crypto.subtle.exportKey(format, key)).toString('base64');
    const args = [url, await base64('pkcs8', keys.privateKey), await base64('raw', keys.publicKey)];
    const acknowledged = new Map<number, string>();
    const checkpoints: string[] = [];
    for (let kill = 1; kill <= KILLS; kill++) {
      for (const [index, hash] of await appendUntilKilled(args, 100 * kill + kill)) {
        expect(acknowledged.has(index)).toBe(false);
        acknowledged.set(index, hash);
      }
      const { store } = await openStore(url, signer);
      const { size, checkpoint } = await store.audit.fsck();
      expect(size).toBeGreaterThan(Math.max(...acknowledged.keys()));
      for await (const { index, bytes } of store.audit.entries(0, size)) {
        const told = acknowledged.get(index);
        if (told !== undefined) expect(bytesToHex(leafHash(bytes))).toBe(told);
      }
      const lines: string[] = [];
      for await (const line of store.audit.exportLines()) lines.push(line);
      for (const olderCheckpoint of checkpoints) {
        await expect(verifyLog(lines, { key: signer.verifierKey, olderCheckpoint })).resolves.toBeDefined();
      }
      checkpoints.push(checkpoint);
      await store.close();
    }
    // No decision without its entry, no two for one entry.
    const client = await connect(url);
    const { rows } = await client.query(
      `SELECT count(*)::int AS decisions, count(DISTINCT audit_index)::int AS entries,
         count(*) FILTER (WHERE e.index IS NULL)::int AS orphans
       FROM decisions d LEFT JOIN audit_entries e ON e.index = d.audit_index`,
    );
    expect(rows[0].decisions).toBe(rows[0].entries);
    expect(rows[0].orphans).toBe(0);
    await client.end();
  });
});
