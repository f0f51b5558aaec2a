/**
 * LISTEN and NOTIFY: how processes on one database tell each other that a plan or a connection changed.
 *
 * A payload is the name of the sending process, a space, and the plan's id ("*" for connections of sites). Limit: while
 * the listening connection is down nothing is heard; its return is reported like news of everything, and whoever
 * depends on the news also polls.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { connect } from '../../../src/database/connection.ts';
import type { Log } from '../../../src/log.ts';

export const CHANNEL = 'veilrisk_aggregator';
/** In the place of a plan: sites came or went. */
export const PRESENCE = '*';
const PAUSE_MS = 500;
/** A connection that swallows everything looks like silence; it is asked now and then. */
const PROBE_MS = 5_000;
const ANSWER_WITHIN_MS = 10_000;
const GOODBYE_MS = 1_000;

export interface News {
  /** A plan another process changed. */
  plan(planId: string): void;
  presence(): void;
  /** Anything may have changed: the connection is new. */
  everything(): void;
}

export class Notifications {
  readonly #ended = new AbortController();
  readonly #listening: Promise<void>;

  /** @param process name of this process, whose own notices are not news. */
  constructor(url: string, process: string, news: News, log: Log) {
    this.#listening = this.#listen(url, process, news, log);
  }

  async close(): Promise<void> {
    this.#ended.abort();
    await this.#listening;
  }

  async #listen(url: string, process: string, news: News, log: Log): Promise<void> {
    const { signal } = this.#ended;
    while (!signal.aborted) {
      try {
        const client = await connect(url);
        await this.#hear(client, process, news).finally(() => goodbye(client));
      } catch (error) {
        log.warn({ err: error }, 'cannot listen to the database; trying again');
      }
      await sleep(PAUSE_MS, undefined, { signal }).catch(() => {});
    }
  }

  /** Until the connection is lost, or nobody wants to hear any more. */
  async #hear(client: pg.Client, process: string, news: News): Promise<void> {
    const { signal } = this.#ended;
    const { promise: over, resolve: end } = Promise.withResolvers<void>();
    const stop = () => end();
    client.on('error', stop);
    client.on('end', stop);
    client.on('notification', ({ payload = '' }) => {
      const [sender, what] = payload.split(' ', 2);
      if (sender === process) return;
      if (what === PRESENCE) news.presence();
      else news.plan(what);
    });
    const ask = (text: string) => {
      const timed: Timed = { text, query_timeout: ANSWER_WITHIN_MS };
      return client.query(timed);
    };
    await ask(`LISTEN ${CHANNEL}`);
    if (signal.aborted) return;
    news.everything();
    signal.addEventListener('abort', stop, { once: true });
    const probe = setInterval(() => ask('SELECT 1').catch(stop), PROBE_MS);
    await over;
    clearInterval(probe);
    signal.removeEventListener('abort', stop);
  }
}

/** node-postgres takes a limit for a single statement; its types do not say so. */
type Timed = pg.QueryConfig & { query_timeout: number };

/** Ends a connection; one that is gone does not answer to that either. */
async function goodbye(client: pg.Client): Promise<void> {
  const late = new AbortController();
  await Promise.race([
    client.end().catch(() => {}),
    sleep(GOODBYE_MS, undefined, { signal: late.signal }).catch(() => {}),
  ]);
  late.abort();
  client.connection.stream.destroy();
}

/** Arguments of pg_notify. */
export function noticeOf(process: string, what: string): { channel: string; payload: string } {
  return { channel: CHANNEL, payload: `${process} ${what}` };
}

/** Tells the other processes, when the transaction commits. */
export async function notify(tx: Pick<pg.ClientBase, 'query'>, process: string, what: string): Promise<void> {
  const { channel, payload } = noticeOf(process, what);
  await tx.query({ name: 'notify', text: 'SELECT pg_notify($1, $2)', values: [channel, payload] });
}
