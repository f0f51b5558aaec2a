/**
 * Bytes that must not be printed: logs, errors, JSON and the inspector see only how many there are.
 *
 * Limit: `wipe` overwrites this buffer. Copies that the runtime, a KeyObject or the Shamir library made of it live until
 * they are collected; a core dump may hold them.
 */

const INSPECT = Symbol.for('nodejs.util.inspect.custom');

export class SecretBytes {
  readonly #bytes: Uint8Array<ArrayBuffer>;

  /** Takes the buffer over: the caller keeps no other use of it. */
  constructor(bytes: Uint8Array<ArrayBuffer>) {
    this.#bytes = bytes;
  }

  get length(): number {
    return this.#bytes.length;
  }

  /** A view of the bytes themselves, not a copy; zeros after `wipe`. */
  reveal(start = 0, end = this.#bytes.length): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(start, end);
  }

  wipe(): void {
    this.#bytes.fill(0);
  }

  toString(): string {
    return `[${this.#bytes.length} secret bytes]`;
  }

  toJSON(): string {
    return this.toString();
  }

  [INSPECT](): string {
    return this.toString();
  }
}
