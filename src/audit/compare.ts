/**
 * Comparing two checkpoints of one log that were shown to different readers.
 *
 * Two of one size with different roots, both signed by the log's key, prove that it told two stories: whoever has the
 * log's public key can check that without trusting who presents them. Limit: two of different sizes are told apart only
 * by a consistency proof or the log itself (`verifyLog` with an older checkpoint).
 */
import { AuditError } from '../errors.ts';
import { equalBytes } from './bytes.ts';
import { type Checkpoint, parseCheckpoint, verifyCheckpoint } from './checkpoint.ts';
import { parseVerifierKey } from './note.ts';

export type Comparison = 'equal' | 'undecided' | 'equivocation';

export interface ComparedCheckpoints {
  comparison: Comparison;
  origin: string;
  a: Checkpoint;
  b: Checkpoint;
  /** Whether both signatures were verified; without a key nothing is proven against anyone. */
  verified: boolean;
}

/**
 * @param verifierKey of the log, obtained by another way.
 * @throws AuditError AUDIT_SIGNATURE_INVALID, AUDIT_NOTE_MALFORMED, also for checkpoints of two logs.
 */
export async function compareCheckpoints(a: string, b: string, verifierKey?: string): Promise<ComparedCheckpoints> {
  const read = async (note: string): Promise<Checkpoint> =>
    verifierKey === undefined ? parseCheckpoint(note) : verifyCheckpoint(note, parseVerifierKey(verifierKey));
  const [first, second] = [await read(a), await read(b)];
  if (first.origin !== second.origin) {
    throw new AuditError('AUDIT_NOTE_MALFORMED', 'The checkpoints are of two logs.', {
      where: `${first.origin}, ${second.origin}`,
      fix: 'Give two checkpoints whose first lines are the same.',
    });
  }
  const comparison =
    first.size !== second.size ? 'undecided' : equalBytes(first.root, second.root) ? 'equal' : 'equivocation';
  return { comparison, origin: first.origin, a: first, b: second, verified: verifierKey !== undefined };
}
