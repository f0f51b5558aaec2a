/** Reads a node's audit log in tests: the entries as parsed JSON, and what can be opened of their commitments. */

import { bytesToHex } from '../../src/audit/bytes.ts';
import type { Entry } from '../../src/audit/entry.ts';
import { leafHash } from '../../src/audit/tree.ts';
import type { NodeContext } from '../../src/operations/context.ts';
import type { PersonalValue } from '../../src/store/personal.ts';

export interface AuditEntry {
  index: number;
  /** Recomputed from the stored bytes. */
  leafHash: string;
  body: Entry;
}

/** At most `most` entries from index `from`. */
export async function auditEntries(node: NodeContext, from: number, most: number): Promise<AuditEntry[]> {
  const { size } = await node.store.audit.head();
  const entries: AuditEntry[] = [];
  for await (const { index, bytes } of node.store.audit.entries(from, Math.min(size, from + most))) {
    const body = JSON.parse(Buffer.from(bytes).toString('utf8')) as Entry;
    entries.push({ index, leafHash: bytesToHex(leafHash(bytes)), body });
  }
  return entries;
}

export function personalRows(node: NodeContext, index: number): Promise<PersonalValue[]> {
  return node.store.personal.of(index);
}
