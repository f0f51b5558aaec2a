/**
 * Has the aggregator cosign this node's own log, so that who set the node's database back later is found out by a
 * checkpoint held elsewhere (C2SP tlog-witness, the aggregator being the witness).
 *
 * Limit: a log without a fresh cosignature is no reason to stop; what went wrong is logged.
 */

import { fromConnectError } from '../../federated/protocol/failure.ts';
import { VeilriskError } from '../errors.ts';
import { CALL_TIMEOUT_MS, type Session } from './session.ts';

/** The aggregator knows the log up to another size than we think: it says which, and we try once more from there. */
const TRIES = 2;

export async function sendCheckpoint(session: Session): Promise<void> {
  const { party, connection, port, log } = session;
  if (port.logs === undefined) return;
  try {
    let oldSize = session.cosigned.size;
    for (let attempt = 0; attempt < TRIES; attempt++) {
      const head = await port.logs.ownHead(oldSize);
      if (oldSize > 0 && Number(head.checkpoint.split('\n', 2)[1]) === oldSize) return;
      const messageId = `checkpoint/${session.incarnation}/${session.cosigned.sent++}`;
      const request = party.seal('checkpoint', messageId, { head, verifierKey: port.logs.verifierKey });
      const reply = await connection.federation.addCheckpoint(request, { timeoutMs: CALL_TIMEOUT_MS });
      const { size, cosignature, code } = party.open('cosigned', reply, messageId).message;
      oldSize = Number(size);
      session.cosigned.size = oldSize;
      if (code === '') return await port.logs.ownCosigned(cosignature, oldSize);
      log.warn({ code, size: oldSize }, 'the aggregator did not cosign the log of this node');
    }
  } catch (cause) {
    const error = cause instanceof VeilriskError ? cause : fromConnectError(cause);
    log.warn({ code: error.code }, error.message);
  }
}
