/**
 * The bytes of request bodies that the process holds at once, over all callers and connections: memory that senders can
 * claim is bounded by what is counted here, and not by how many connections they open. Callers share it fairly
 * (src/fairShare.ts), so none can keep the others out.
 *
 * A reply counts in the body's place from when it is made until its reader has taken it.
 *
 * Limit: a body may be held twice for a moment, as read and as handed to a worker thread.
 */
import { EncryptionError } from '../errors.ts';
import { openShares } from '../fairShare.ts';

export interface BodyRoom {
  /**
   * Counts a body before it is read; the function returned takes it off again, once.
   * @param owner name of the caller, as on its API key
   * @throws EncryptionError POOL_FULL when it does not fit beside the others, or would exceed the caller's share
   */
  enter(owner: string, bytes: number): () => void;
  /** Counts a reply that waits for its reader, unasked because it is there already; the function returned ends that, once. */
  hold(owner: string, bytes: number): () => void;
}

/** @param limitBytes at least the largest single body, or that one could never be read */
export function openBodyRoom(limitBytes: number): BodyRoom {
  const shares = openShares(limitBytes);
  return {
    enter(owner, bytes) {
      const shortage = shares.shortage(owner, bytes);
      if (shortage !== null) throw full(shortage === 'caller');
      return shares.hold(owner, bytes);
    },
    hold: shares.hold,
  };
}

function full(ofCaller: boolean): EncryptionError {
  const what = ofCaller
    ? 'Your requests hold the share of the room for bodies that one caller may have.'
    : 'The requests of all callers fill the room for bodies that the node has.';
  return new EncryptionError('POOL_FULL', what, {
    where: 'body',
    fix: ofCaller
      ? 'Send the next request when others of yours are answered, or after the time in Retry-After.'
      : 'Try again after the time in Retry-After.',
  });
}
