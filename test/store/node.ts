/** A node store on a fresh database, with a log key of its own. */
import { createLogSigner, type LogSigner } from '../../src/audit/note.ts';
import { type NodeStore, openNodeStore } from '../../src/store/nodeStore.ts';

export async function newSigner(origin = 'bank-a'): Promise<LogSigner> {
  // Safe: generateKey for Ed25519 always gives a pair.
  const keys = (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair;
  return createLogSigner(origin, keys);
}

export interface OpenedStore {
  url: string;
  signer: LogSigner;
  store: NodeStore;
}

export async function openStore(url: string, signer?: LogSigner): Promise<OpenedStore> {
  const logSigner = signer ?? (await newSigner());
  return { url, signer: logSigner, store: await openNodeStore({ url, logSigner }) };
}

export const entry = (number: number) => ({
  type: 'test',
  actor: 'node',
  outcome: 'ok',
  details: { number },
});
