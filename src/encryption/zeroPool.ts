/**
 * Encryptions of zero under the callers' public keys, prepared between replies and each used once.
 *
 * Re-randomising is what hides the weights in c1 (encryption.md, section 4); preparing it takes longer than the rest of
 * a reply, hence the pool. Using one twice would let the caller subtract two replies.
 * Limit: keys are held for the most recent callers only; another caller's first reply waits for its preparation.
 */
import { EncryptionError } from '../errors.ts';
import { checkPublicKey } from './preamble.ts';
import { productBits } from './presets.ts';
import { attempt, type Ciphertext, type Encryptor, Scope, type SealRuntime } from './seal.ts';
import { keyIdOf } from './secretKey.ts';

export interface ZeroPool {
  /** Makes a key ready for `take`. @throws EncryptionError FRAME_MISMATCH, PUBLIC_KEY_* */
  admit(keyId: string, publicKey: Uint8Array): void;
  /** A fresh encryption of zero at upload level with the product's scale; the caller owns it. */
  take(keyId: string): Ciphertext;
  refill(): void;
  close(): void;
}

interface Caller {
  readonly publicKey: Uint8Array;
  readonly encryptor: Encryptor;
  readonly ready: Ciphertext[];
}

const CALLERS_KEPT = 32;
const READY_PER_CALLER = 2;

export function openZeroPool(runtime: SealRuntime): ZeroPool {
  const callers = new Map<string, Caller>();
  const scale = 2 ** productBits(runtime.preset);

  function encryptZero(encryptor: Encryptor): Ciphertext {
    const zero = new runtime.seal.Ciphertext();
    encryptor.encryptZero(zero);
    zero.setScale(scale);
    return zero;
  }

  function forget(keyId: string, caller: Caller): void {
    for (const zero of caller.ready) zero.delete();
    caller.encryptor.delete();
    callers.delete(keyId);
  }

  return {
    admit(keyId, publicKey) {
      const known = callers.get(keyId);
      if (known !== undefined) {
        if (!equal(known.publicKey, publicKey)) throw mismatch();
        callers.delete(keyId);
        callers.set(keyId, known);
        return;
      }
      if (checkPublicKey(publicKey).name !== runtime.preset.name || keyIdOf(publicKey) !== keyId) throw mismatch();
      using scope = new Scope();
      const open = scope.own(new runtime.seal.PublicKey());
      attempt('PUBLIC_KEY_MALFORMED', 'public key', () => open.loadFromArray(runtime.context, publicKey));
      const encryptor = new runtime.seal.Encryptor(runtime.context, open);
      callers.set(keyId, { publicKey: publicKey.slice(), encryptor, ready: [] });
      for (const [old, caller] of callers) {
        if (callers.size <= CALLERS_KEPT) break;
        forget(old, caller);
      }
    },
    take(keyId) {
      const caller = callers.get(keyId);
      if (caller === undefined) throw mismatch();
      return caller.ready.pop() ?? encryptZero(caller.encryptor);
    },
    refill() {
      // The caller of the last reply is the likeliest to call again; others keep what they have.
      const latest = [...callers.values()].at(-1);
      while (latest !== undefined && latest.ready.length < READY_PER_CALLER)
        latest.ready.push(encryptZero(latest.encryptor));
    },
    close() {
      for (const [keyId, caller] of callers) forget(keyId, caller);
    },
  };
}

function mismatch(): EncryptionError {
  return new EncryptionError('FRAME_MISMATCH', 'the request is for another key', {
    where: 'request frame, key id',
    fix: 'Register the public key and use its key id.',
  });
}

/** By words where both are aligned, because a key is compared with every request. */
function equal(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  const aligned = a.byteOffset % 4 === 0 && b.byteOffset % 4 === 0;
  const words = aligned ? Math.floor(a.length / 4) : 0;
  const left = new Uint32Array(a.buffer, aligned ? a.byteOffset : 0, words);
  const right = new Uint32Array(b.buffer, aligned ? b.byteOffset : 0, words);
  for (let i = 0; i < words; i++) if (left[i] !== right[i]) return false;
  for (let i = 4 * words; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
