/** Whether and where this node scores encrypted requests now. */
import { EncryptionError, RequestError } from '../errors.ts';
import type { EncryptionPool } from '../workers/encryptionPool.ts';
import type { NodeContext } from './context.ts';

/** The HE pool of a serving node. @throws RequestError NOT_READY where none was opened */
export function encryptionPool(context: NodeContext): EncryptionPool {
  if (context.encryption !== null) return context.encryption;
  throw new RequestError('NOT_READY', 'This process does not score encrypted transactions.', {
    fix: 'Send the request to a node that was started with "veilrisk node start".',
  });
}

/**
 * The HE pool while it takes another job: asked before a body is read for it, because reading costs more than refusing.
 * @param owner the caller, whose share of the queue may be full while others have room
 * @throws RequestError NOT_READY where none was opened; EncryptionError POOL_FULL
 */
export function roomyPool(context: NodeContext, owner?: string): EncryptionPool {
  const pool = encryptionPool(context);
  if (pool.ready(owner)) return pool;
  const what = pool.ready()
    ? 'Your encrypted requests hold the share of the queue that one caller may have.'
    : 'The node takes no encrypted request at this moment.';
  throw new EncryptionError('POOL_FULL', what, {
    where: 'encryption pool',
    fix: 'Try again after the time in Retry-After.',
  });
}
