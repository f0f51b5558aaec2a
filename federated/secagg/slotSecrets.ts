/** The X25519 secrets that a site shares with its peers in each slot: worked out once, perhaps ahead of their sum. */
import type { KeyObject } from 'node:crypto';
import { privateKey, sharedSecret } from './keys.ts';
import { SecretBytes } from './secret.ts';

export class SlotSecrets {
  readonly #kept = new Map<number, Map<string, SecretBytes>>();
  readonly #secretKey: (slot: number) => Uint8Array;
  readonly #publicKey: (peer: string, slot: number) => Uint8Array;

  /** @param secretKey the site's own mask key of a slot. @param publicKey a peer's. */
  constructor(secretKey: (slot: number) => Uint8Array, publicKey: (peer: string, slot: number) => Uint8Array) {
    this.#secretKey = secretKey;
    this.#publicKey = publicKey;
  }

  /** Of each peer, in their order: views that are zeros after `forget`. @throws SecaggError SECAGG_KEYS. */
  of(slot: number, peers: readonly string[]): Uint8Array[] {
    const known = this.#kept.get(slot) ?? new Map<string, SecretBytes>();
    this.#kept.set(slot, known);
    let own: KeyObject | undefined;
    return peers.map((peer) => {
      const before = known.get(peer);
      if (before !== undefined) return before.reveal();
      own ??= privateKey(this.#secretKey(slot));
      const fresh = new SecretBytes(sharedSecret(own, this.#publicKey(peer, slot)));
      known.set(peer, fresh);
      return fresh.reveal();
    });
  }

  /** Wipes those of one slot, or all. */
  forget(slot?: number): void {
    for (const [number, secrets] of this.#kept) {
      if (slot !== undefined && number !== slot) continue;
      for (const secret of secrets.values()) secret.wipe();
      this.#kept.delete(number);
    }
  }
}
