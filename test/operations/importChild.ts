/**
 * A process of its own that imports a file, for the test that kills it.
 * argv: database URL, the log's private key (PKCS #8, base64), its public key (raw, base64), CSV file.
 */
import { createLogSigner } from '../../src/audit/note.ts';
import { readContract } from '../../src/operations/contracts.ts';
import { importRecords } from '../../src/operations/importRecords.ts';
import { openBudget } from '../../src/privacy/budget.ts';
import { systemRandom } from '../../src/random.ts';
import { openNodeStore } from '../../src/store/nodeStore.ts';

const [url, privateKey, publicKey, path] = process.argv.slice(2);
const bytes = (text: string) => Uint8Array.from(Buffer.from(text, 'base64'));
const keys = {
  privateKey: await crypto.subtle.importKey('pkcs8', bytes(privateKey), 'Ed25519', true, ['sign']),
  publicKey: await crypto.subtle.importKey('raw', bytes(publicKey), 'Ed25519', true, ['verify']),
};
const store = await openNodeStore({ url, logSigner: await createLogSigner('test.example/audit', keys) });
let told = false;
const report = await importRecords(
  { store, subjectKey: new Uint8Array(32).fill(7), budget: openBudget(1, 1e-6), random: systemRandom() },
  {
    contractFile: await readContract('demo-transactions'),
    path,
    onProgress(read) {
      // Far enough for records to be on their way to the server.
      if (read < 3_000_000 || told) return;
      told = true;
      process.stdout.write('half\n');
    },
  },
);
process.stdout.write(`${JSON.stringify({ accepted: report.accepted, alreadyImported: report.alreadyImported })}\n`);
await store.close();
