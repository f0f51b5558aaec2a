/**
 * `veilrisk aggregator log export | check`: the log taken out for an auditor, and checked where it is.
 *
 * Reads only, beside a running aggregator too. Source of the file: src/audit/FORMAT.md; `veilrisk audit verify` needs
 * nothing but it.
 */
import { join } from 'node:path';
import type { LevelWithSilent } from 'pino';
import { bytesToHex } from '../../src/audit/bytes.ts';
import { encodeWitnessKey } from '../../src/audit/cosignature.ts';
import { encodeVerifierKey } from '../../src/audit/note.ts';
import { openPool } from '../../src/database/connection.ts';
import { startEmbeddedPostgres } from '../../src/database/embeddedServer.ts';
import { type JournalReader, readJournal } from '../../src/journal/reader.ts';
import { openLog } from '../../src/log.ts';
import { aggregatorLogName, siteWitnessName } from '../protocol/logNames.ts';
import type { Roster } from '../protocol/roster.ts';
import { openInstallation } from './installation.ts';

export interface LogPlace {
  dataDir: string;
  /** File instead of the data directory's roster. */
  roster?: string;
  /** Without it the embedded PostgreSQL of the data directory. */
  databaseUrl: string | undefined;
  logLevel: LevelWithSilent;
}

export interface ExportedLog {
  entries: number;
  verifierKey: string;
  /** Verifier keys of the sites as witnesses, by the roster; an auditor asks the sites for theirs. */
  witnesses: string[];
}

export async function exportLog(place: LogPlace, out: string): Promise<ExportedLog> {
  return withLog(place, async (reader, roster) => ({
    entries: await reader.exportTo(out),
    verifierKey: reader.verifierKey,
    witnesses: roster.sites.map(({ id, identityKey }) =>
      encodeWitnessKey(siteWitnessName(id), Buffer.from(identityKey, 'base64')),
    ),
  }));
}

/** @throws AuditError AUDIT_LOG_TAMPERED, `where` the first bad index. */
export async function checkLog(place: LogPlace) {
  return withLog(place, async (reader) => {
    const { size, root, checkpoint } = await reader.fsck();
    return { origin: reader.origin, verifierKey: reader.verifierKey, size, root: bytesToHex(root), checkpoint };
  });
}

async function withLog<T>(place: LogPlace, work: (reader: JournalReader, roster: Roster) => Promise<T>): Promise<T> {
  const { signedRoster } = await openInstallation(place.dataDir, place.roster);
  const { roster } = signedRoster;
  const log = openLog('aggregator', place.logLevel === 'info' ? 'warn' : place.logLevel);
  const postgres =
    place.databaseUrl === undefined
      ? await startEmbeddedPostgres({ dataDir: join(place.dataDir, 'postgres'), log })
      : { url: place.databaseUrl, release: async () => {} };
  try {
    const pool = await openPool(postgres.url, 2);
    try {
      const origin = aggregatorLogName(roster);
      const verifierKey = encodeVerifierKey(origin, Buffer.from(roster.aggregator.identityKey, 'base64'));
      return await work(readJournal(pool, { origin, verifierKey }), roster);
    } finally {
      await pool.end();
    }
  } finally {
    await postgres.release();
  }
}
