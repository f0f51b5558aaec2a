/**
 * Child of crash.test.ts: records entries and decisions in a loop, one line `INDEX LEAFHASH` on standard output for each
 * that was acknowledged, until it is killed. Arguments: database URL, PKCS #8 private key and raw public key in base64.
 */
import { writeSync } from 'node:fs';
import { createLogSigner } from '../../src/audit/note.ts';
import { openNodeStore } from '../../src/store/nodeStore.ts';

const [url, privateKey, publicKey] = process.argv.slice(2);
const logSigner = await createLogSigner('bank-a', {
  privateKey: await crypto.subtle.importKey('pkcs8', Buffer.from(privateKey, 'base64'), 'Ed25519', false, ['sign']),
  publicKey: await crypto.subtle.importKey('raw', Buffer.from(publicKey, 'base64'), 'Ed25519', true, ['verify']),
});
const store = await openNodeStore({ url, logSigner });
const entry = { type: 'test', actor: 'node', outcome: 'ok', details: {} };

async function decide(): Promise<void> {
  for (;;) {
    const id = crypto.randomUUID();
    const draft = { id, apiKey: 'k', idempotencyKey: id, bodyHash: 'b', modelHash: 'm', reply: '{}', entry };
    const { index, leafHash } = await store.decisions.record(draft);
    writeSync(1, `${index} ${leafHash}\n`);
  }
}
async function append(): Promise<void> {
  for (;;) {
    const { index, leafHash } = await store.transaction((tx) => tx.append(entry));
    writeSync(1, `${index} ${leafHash}\n`);
  }
}
await Promise.all([...Array.from({ length: 20 }, decide), append()]);
