/**
 * Looks over the SDK's shoulder: what its requests carried, and when. A page in production has no use for this; here it
 * shows that the bytes on the wire are ciphertext.
 */
export interface Sent {
  /** Milliseconds on the worker's clock; the answer counts when its last byte is there. */
  sentAt: number;
  answeredAt: number;
  body: Uint8Array<ArrayBuffer>;
  bytesDown: number;
}

/** Replaces the worker's `fetch`. `start` begins a new list, which fills up as requests are answered. */
export function watchFetch(): { start(): Sent[] } {
  let list: Sent[] = [];
  const original = globalThis.fetch;
  globalThis.fetch = async (input, init) => {
    const sentAt = performance.now();
    const mine = list;
    const response = await original(input, init);
    // Only the SDK calls to the node are of interest, not the loading of SEAL.
    if (!new Headers(init?.headers).has('authorization')) return response;
    const bytes = await response.arrayBuffer();
    const body = init?.body instanceof Uint8Array ? new Uint8Array(init.body) : new Uint8Array();
    mine.push({ sentAt, answeredAt: performance.now(), body, bytesDown: bytes.byteLength });
    const { status, statusText, headers } = response;
    return new Response(bytes.byteLength === 0 ? null : bytes, { status, statusText, headers });
  };
  return {
    start() {
      list = [];
      return list;
    },
  };
}
