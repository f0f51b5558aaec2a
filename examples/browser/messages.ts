/**
 * What the page asks of its worker and what the worker answers: structured clones, no key and no API key ever comes back.
 */
import type {
  EncryptedScore,
  KeyReply,
  Progress,
  ServedModel,
  StreamedScore,
  Transaction,
} from '../../src/client/client.ts';
import type { FieldIssue } from '../../src/errors.ts';

/** Name of a call -> its input and output. */
export interface Calls {
  connect: { input: { url: string; apiKey: string }; output: ServedModel };
  createKey: { input: { passphrase: string }; output: RegisteredKey & { file: Uint8Array<ArrayBuffer> } };
  openKey: { input: { file: Uint8Array; passphrase: string }; output: RegisteredKey };
  score: { input: { transaction: Transaction }; output: ScoredOne };
  scoreTable: { input: { text: string } | { transactions: Transaction[] }; output: Progress & { tookMs: number } };
  /** Stops the table that is being scored, if any. */
  cancel: { input: Record<string, never>; output: null };
}

export interface RegisteredKey {
  reply: KeyReply;
  /** Milliseconds of making or opening the key, and of registering it. */
  keyMs: number;
  registerMs: number;
}

export interface ScoredOne {
  result: EncryptedScore;
  steps: { name: string; ms: number }[];
  /** The request body exactly as it was sent. */
  frame: Uint8Array<ArrayBuffer>;
  bytesDown: number;
}

export interface Failure {
  code: string;
  message: string;
  fix?: string;
  issues: readonly FieldIssue[];
}

export type ToWorker = { [Name in keyof Calls]: { id: number; name: Name; input: Calls[Name]['input'] } }[keyof Calls];

export type FromWorker =
  | { id: number; output: Calls[keyof Calls]['output'] }
  | { id: number; failure: Failure }
  /** Of `scoreTable`: what came since the last one, in order, and how many rows there are. */
  | { id: number; scored: StreamedScore[]; rows: number };
