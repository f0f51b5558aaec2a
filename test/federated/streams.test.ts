/** A site's task stream without a network: what it carries while the aggregator is busy. */

import type { HandlerContext } from '@connectrpc/connect';
import { expect, test } from '@jest/globals';
import { type Desk, InFlight, Listeners } from '../../federated/aggregator/desk.ts';
import { streamTasks } from '../../federated/aggregator/streams.ts';
import { aggregatorParty, makeConsortium, quiet, siteParty } from './consortium.ts';

/** PROTOCOL.md: a heartbeat at least every 5 s; a site that gets none for 15 s gives the connection up. */
const SILENCE_MS = 5_000;

test('heartbeats come when the bell never stops ringing', async () => {
  const c = makeConsortium(3);
  const listeners = new Listeners();
  const desk = {
    ...{ party: aggregatorParty(c), listeners, inFlight: new InFlight(), journal: null, log: quiet },
    presence: { enter: async () => async () => {} },
    boards: { all: () => [] },
  };
  const stopping = new AbortController();
  const site = siteParty(c, 0);
  const listen = site.seal('listen', 'listen/1', { incarnation: 'process-1', logSize: 0n });
  // Safe: the stream of a site without plans uses nothing else of the desk.
  const context = { signal: new AbortController().signal } as HandlerContext;
  const stream = streamTasks(desk as unknown as Desk, listen, context, stopping.signal);
  const bell = setInterval(() => listeners.ring(), 20);
  try {
    for (const sequence of [0, 1]) {
      const started = performance.now();
      const next = await stream.next();
      if (next.done) throw new TypeError('the stream ended');
      const { message } = site.open('task', next.value, `listen/1/${sequence}`);
      expect(message.task.case).toBe('heartbeat');
      expect(performance.now() - started).toBeLessThan(SILENCE_MS + 2_000);
    }
  } finally {
    clearInterval(bell);
    stopping.abort();
    await stream.return(undefined);
  }
});
