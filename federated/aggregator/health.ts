/**
 * `veilrisk aggregator health`: asks a running aggregator for its name, as a member of its consortium.
 *
 * Runs in the aggregator's data directory or in a bank's: both hold a certificate and the roster. Limit: the answer is not
 * signed. It says that the holder of the listed certificate serves, not that plans advance.
 */

import { FederationError } from '../../src/errors.ts';
import { fromConnectError } from '../protocol/failure.ts';
import { AGGREGATOR, rosterHash } from '../protocol/roster.ts';
import { connect } from '../protocol/transport.ts';
import { openMembership } from './installation.ts';

export interface HealthOptions {
  /** Whose certificate is shown. */
  dataDir: string;
  /** File; else the roster the data directory has accepted. */
  roster?: string;
  /** https URL. Without it: the port on this machine; at a bank the roster's URL; the default port on this machine. */
  aggregator?: string;
  port?: number;
  defaultPort: number;
}

export interface Health {
  url: string;
  consortium: string;
  protocol: string;
  /** 64 hex. */
  rosterHash: string;
}

/** Shorter than the five seconds a container's health check has. */
const TIMEOUT_MS = 3_000;

/**
 * @throws FederationError AGGREGATOR_UNREACHABLE when nobody answers in time or someone else does; CERTIFICATE_REFUSED;
 *   ROSTER_INVALID when keys or roster cannot be read, or the aggregator serves another roster.
 */
export async function checkHealth(options: HealthOptions): Promise<Health> {
  const { signedRoster, place, identity } = await openMembership(options.dataDir, options.roster);
  const { roster } = signedRoster;
  const here = (port: number) => `https://127.0.0.1:${port}`;
  // The aggregator's own address may not be reachable from where it runs.
  const listed = place.name === AGGREGATOR ? undefined : roster.aggregator.url;
  const url =
    options.aggregator ?? (options.port === undefined ? (listed ?? here(options.defaultPort)) : here(options.port));
  const connection = connect(roster, url, identity);
  try {
    const reply = await connection.federation.health({}, { timeoutMs: TIMEOUT_MS });
    const health = {
      ...{ url, consortium: reply.consortium, protocol: reply.protocol },
      rosterHash: Buffer.from(reply.rosterHash).toString('hex'),
    };
    if (health.rosterHash !== rosterHash(roster)) {
      throw new FederationError('ROSTER_INVALID', 'The aggregator serves another roster.', {
        where: options.roster ?? options.dataDir,
        fix: 'Have every party accept the roster the operator handed out last: `veilrisk provision join`.',
      });
    }
    return health;
  } catch (error) {
    const { code, message, where = url, fix, cause } = fromConnectError(error);
    throw new FederationError(code, message, { where, cause, ...(fix === undefined ? {} : { fix }) });
  } finally {
    connection.close();
  }
}
