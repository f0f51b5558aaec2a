/**
 * The bytes of request bodies that the process holds at once, over all callers and connections: memory that senders can
 * claim is bounded by what is counted here, and not by how many connections they open.
 *
 * Limit: it counts bodies. A body may be held twice for a moment, as read and as handed to a worker thread.
 */
import { EncryptionError } from '../errors.ts';

export interface BodyRoom {
  /**
   * Counts a body before it is read; the function returned takes it off again, once.
   * @throws EncryptionError POOL_FULL when it does not fit beside the others
   */
  enter(bytes: number): () => void;
}

/** @param limitBytes at least the largest single body, or that one could never be read */
export function openBodyRoom(limitBytes: number): BodyRoom {
  let held = 0;
  return {
    enter(bytes) {
      if (held + bytes > limitBytes) {
        throw new EncryptionError('POOL_FULL', 'The bodies of other requests fill the room there is for them.', {
          where: 'body',
          fix: 'Try again after the time in Retry-After.',
        });
      }
      held += bytes;
      let counted = bytes;
      return () => {
        held -= counted;
        counted = 0;
      };
    },
  };
}
