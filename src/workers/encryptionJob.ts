/** What crosses between the encryption pool and its threads: plain data, structured-cloneable. */
import type { LinearModel } from '../encryption/encryption.ts';
import type { PresetName } from '../encryption/presets.ts';
import type { EncryptionErrorCode } from '../errors.ts';

export type EncryptionJob =
  | { readonly kind: 'warm' }
  | { readonly kind: 'inspect'; readonly publicKey: Uint8Array }
  | {
      readonly kind: 'score';
      readonly model: LinearModel;
      readonly publicKey: Uint8Array;
      readonly request: Uint8Array;
    };

export type EncryptionOutcome =
  | { readonly ok: true; readonly kind: 'warm' }
  | { readonly ok: true; readonly kind: 'inspect'; readonly key: { keyId: string; preset: PresetName } }
  | { readonly ok: true; readonly kind: 'score'; readonly reply: Uint8Array }
  | {
      readonly ok: false;
      readonly code: EncryptionErrorCode;
      readonly message: string;
      readonly where: string | undefined;
      readonly fix: string | undefined;
    };
