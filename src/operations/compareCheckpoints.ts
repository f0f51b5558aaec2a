/**
 * Two checkpoints of one log, from files that two readers kept, or from the evidence a witness wrote.
 */
import { bytesToHex } from '../audit/bytes.ts';
import { type Comparison, compareCheckpoints } from '../audit/compare.ts';
import { AuditError } from '../errors.ts';
import { readCheckpoint, readStart } from './verifyLog.ts';

export const EVIDENCE_FORMAT = 'veilrisk-equivocation/1';

/** What a witness writes into `equivocation-*.json` (audit/FORMAT.md). */
export interface EquivocationFile {
  format: typeof EVIDENCE_FORMAT;
  origin: string;
  /** Key of the log, as the roster names it. */
  verifierKey: string;
  /** Signed note that was accepted before, and the one that contradicts it. */
  known: string;
  shown: string;
  /** What came with `shown`: the size its proof starts from, and its hashes in base64. */
  oldSize: number;
  proof: readonly string[];
  reason: string;
  /** UTC, ISO 8601. */
  time: string;
}

export interface CompareOptions {
  /** A signed note, an export or its first line; or, alone, the evidence of a witness. */
  a: string;
  b?: string | undefined;
  key?: string | undefined;
}

export interface ComparisonReport {
  origin: string;
  comparison: Comparison;
  verified: boolean;
  /** Entries and hex roots. */
  a: { size: number; root: string };
  b: { size: number; root: string };
}

/** @throws AuditError AUDIT_FILE_MALFORMED, AUDIT_NOTE_MALFORMED, AUDIT_SIGNATURE_INVALID. */
export async function compareFiles({ a, b, key }: CompareOptions): Promise<ComparisonReport> {
  const [first, second] = b === undefined ? await readEvidence(a) : [await readCheckpoint(a), await readCheckpoint(b)];
  const compared = await compareCheckpoints(first, second, key);
  const shape = ({ size, root }: { size: number; root: Uint8Array }) => ({ size, root: bytesToHex(root) });
  const { origin, comparison, verified } = compared;
  return { origin, comparison, verified, a: shape(compared.a), b: shape(compared.b) };
}

async function readEvidence(path: string): Promise<[string, string]> {
  const text = await readStart(path);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    json = null;
  }
  // Safe: any JSON value but null has members or none; those used are checked.
  const { format, known, shown } = (json ?? {}) as Record<string, unknown>;
  if (format === EVIDENCE_FORMAT && typeof known === 'string' && typeof shown === 'string') return [known, shown];
  throw new AuditError('AUDIT_FILE_MALFORMED', 'One file alone must be the evidence of a witness.', {
    where: path,
    fix: 'Give two checkpoints, or the file equivocation-*.json of a data directory.',
  });
}
