/** A running node: the REST API, and the bank's side of the federation once a roster was accepted (or is given). */
import type { SignedRoster } from '../../federated/protocol/roster.ts';
import { followedRoster, memberFiles, rememberRoster } from '../../federated/provision/membership.ts';
import { nextRoster } from '../../federated/provision/watch.ts';
import { runParticipant } from '../participant/participant.ts';
import type { NodeContext } from './context.ts';
import { nodeMembership, noteRoster, warnOfExpiry } from './nodeRoster.ts';
import { type NodeEvent, openParticipantPort } from './training.ts';
import { openWitness } from './witness.ts';

/** The API's listener, handed in because operations do not know HTTP. */
export type ServeApi = (
  context: NodeContext,
  options: { host: string; port: number },
) => Promise<{ url: string; close(): Promise<void> }>;

export interface ServeFlags {
  dataDir: string;
  host: string;
  port: number;
  /** File instead of the accepted roster; with neither the node only scores. */
  roster?: string | undefined;
  /** URL that overrides the roster's. */
  aggregator?: string | undefined;
  progressJson?: boolean | undefined;
}

type ServeEvent =
  | NodeEvent
  | { event: 'ready'; url: string }
  /** A roster is in force. */
  | { event: 'roster'; version: number };

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
  const emit = (event: ServeEvent) => {
    if (flags.progressJson) process.stdout.write(`${JSON.stringify(event)}\n`);
  };
  const read = async (): Promise<SignedRoster | null> => {
    const signed = await followedRoster(flags.dataDir, flags.roster);
    if (signed !== null) {
      await nodeMembership(context, flags.dataDir, signed.roster);
      await rememberRoster(flags.dataDir, signed);
    }
    return signed;
  };
  try {
    let signed = await read();
    const api = await serveApi(context, { host: flags.host, port: flags.port });
    try {
      log.info({ url: api.url, site: context.name }, 'ready');
      emit({ event: 'ready', url: api.url });
      while (!stopping.signal.aborted) signed = (await follow(signed)) ?? signed;
    } finally {
      await api.close();
    }
  } finally {
    await context.close();
  }

  /** Takes part under one roster; resolves with the next one, or with null at the end. */
  async function follow(signed: SignedRoster | null): Promise<SignedRoster | null> {
    const leaving = new AbortController();
    const signal = AbortSignal.any([stopping.signal, leaving.signal]);
    const refused = (err: unknown) => log.error({ err }, 'a changed roster is refused; the old one stays in force');
    const file = flags.roster ?? memberFiles(flags.dataDir).roster;
    const next = nextRoster(signed, { file, read, refused, signal });
    if (signed === null) return next;
    const { roster } = signed;
    await noteRoster(context, flags.dataDir, roster);
    emit({ event: 'roster', version: roster.version });
    const { identity, certificate } = await nodeMembership(context, flags.dataDir, roster);
    warnOfExpiry(context, certificate);
    const participant = runParticipant({
      ...{ roster, site: context.name, identity, log, signal },
      port: {
        ...openParticipantPort(context, { sites: roster.sites.length, minimumQuorum: roster.minimumQuorum }, emit),
        logs: openWitness(context, roster),
      },
      ...(flags.aggregator === undefined ? {} : { url: flags.aggregator }),
    });
    try {
      return await Promise.race([next, participant.then(() => null)]);
    } finally {
      leaving.abort();
      await Promise.allSettled([participant, next]);
    }
  }
}
