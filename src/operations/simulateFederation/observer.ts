/**
 * Watches a simulated federation from outside and writes down every breach of what secure aggregation promises; it has no
 * part in the run. A run without a breach proves nothing beyond its own messages.
 */
import { sha256Hex } from '../../../federated/protocol/canonical.ts';
import type { OpenedShare, SumContext } from '../../../federated/secagg/sum.ts';

export class Observer {
  readonly #released = new Map<string, Float64Array>();
  readonly #slots = new Map<string, string>();
  readonly #revealed = new Map<string, number>();
  /** Which of a member's two secrets a site opened a share of, in one attempt. */
  readonly #opened = new Map<string, 'seed' | 'key'>();
  /** What was breached, in words; empty in a sound run. */
  readonly breaches: string[] = [];

  released(site: string, round: number, values: Float64Array): void {
    const key = `${round}/${site}`;
    if (this.#released.has(key)) this.breaches.push(`${site} drew noise for round ${round} twice`);
    this.#released.set(key, values);
  }

  masked(site: string, slot: string, sum: SumContext, packed: Uint8Array): void {
    const key = `${site}/${slot}`;
    const digest = `${sum.round}/${sum.attempt}/${sum.members.join()}/${sha256Hex(packed)}`;
    const before = this.#slots.get(key);
    if (before !== undefined && before !== digest) this.breaches.push(`${site} used the masks of slot ${slot} twice`);
    this.#slots.set(key, digest);
  }

  revealed(
    site: string,
    round: number,
    attempt: number,
    seeds: readonly OpenedShare[],
    keys: readonly OpenedShare[],
  ): void {
    const before = this.#revealed.get(`${round}/${site}`);
    if (before !== undefined && before !== attempt) {
      this.breaches.push(`${site} opened shares of two attempts of round ${round}`);
    }
    this.#revealed.set(`${round}/${site}`, attempt);
    for (const [kind, list] of [
      ['seed', seeds],
      ['key', keys],
    ] as const) {
      for (const { site: of } of list) {
        const name = `${site}/${round}/${attempt}/${of}`;
        const other = this.#opened.get(name);
        if (other !== undefined && other !== kind) this.breaches.push(`${site} opened both secrets of ${of}`);
        this.#opened.set(name, kind);
      }
    }
  }

  /** Compares a round's sum with the plain sum of what its contributors released. @returns whether they are equal. */
  summed(round: number, contributors: readonly string[], quorum: number, sum: Float64Array): boolean {
    if (contributors.length < quorum) this.breaches.push(`round ${round} has fewer contributors than the quorum`);
    const plain = new Float64Array(sum.length);
    for (const site of contributors) {
      const values = this.#released.get(`${round}/${site}`);
      if (values === undefined) this.breaches.push(`${site} is in the sum of round ${round} and released nothing`);
      else for (let at = 0; at < plain.length; at++) plain[at] += values[at];
    }
    const isEqual = plain.every((value, at) => value === sum[at]);
    if (!isEqual) this.breaches.push(`the sum of round ${round} is not that of its contributors`);
    return isEqual;
  }
}
