/** A running node: the REST API, and the bank's side of the federation when a roster is given. */
import { parseRoster } from '../../federated/protocol/roster.ts';
import { RequestError } from '../errors.ts';
import { runParticipant } from '../participant/participant.ts';
import type { NodeContext } from './context.ts';
import { type NodeEvent, openParticipantPort } from './training.ts';
import { readJson } from './trainingPlans.ts';

/** The API's listener, handed in because operations do not know HTTP. */
export type ServeApi = (
  context: NodeContext,
  options: { host: string; port: number },
) => Promise<{ url: string; close(): Promise<void> }>;

export interface ServeFlags {
  host: string;
  port: number;
  /** File; without it the node only scores. */
  roster?: string | undefined;
  /** URL that overrides the roster's. */
  aggregator?: string | undefined;
  progressJson?: boolean | undefined;
}

/** Serves until SIGINT or SIGTERM, then finishes what is in flight and closes the context. */
export async function serveNode(context: NodeContext, serveApi: ServeApi, flags: ServeFlags): Promise<void> {
  const { log } = context;
  const stopping = new AbortController();
  const stop = (signal: NodeJS.Signals) => {
    log.info({ signal }, 'stopping');
    stopping.abort();
  };
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  const emit = (event: NodeEvent | { event: 'ready'; url: string }) => {
    if (flags.progressJson) process.stdout.write(`${JSON.stringify(event)}\n`);
  };
  try {
    const roster = flags.roster === undefined ? null : parseRoster(await readJson(flags.roster));
    if (roster !== null) requireOwnPlace(roster.sites, context);
    const api = await serveApi(context, { host: flags.host, port: flags.port });
    try {
      log.info({ url: api.url, site: context.name }, 'ready');
      emit({ event: 'ready', url: api.url });
      if (roster === null) {
        await new Promise<void>((done) => stopping.signal.addEventListener('abort', () => done(), { once: true }));
      } else {
        await runParticipant({
          ...{ roster, site: context.name, identity: context.identity, log, signal: stopping.signal },
          port: openParticipantPort(context, { sites: roster.sites.length, minimumQuorum: roster.minimumQuorum }, emit),
          ...(flags.aggregator === undefined ? {} : { url: flags.aggregator }),
        });
      }
    } finally {
      await api.close();
    }
  } finally {
    await context.close();
  }
}

function requireOwnPlace(sites: readonly { id: string; identityKey: string }[], context: NodeContext): void {
  const own = sites.find(({ id }) => id === context.name);
  if (own?.identityKey === context.identity.publicKey) return;
  throw new RequestError('CONFIGURATION', 'the roster does not list this node with its identity key', {
    where: context.name,
    fix: 'send what `veilrisk node init` printed to the consortium operator and use the roster he hands out',
  });
}
