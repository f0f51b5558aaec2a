/**
 * The export of a whole log as a text file, one line an entry. Byte format: FORMAT.md, "Export file".
 */
import { AuditError } from '../errors.ts';
import { bytesToHex, fromUtf8, hexToBytes, utf8 } from './bytes.ts';

const EXPORT_FORMAT = 'veilrisk-audit-export/1';

export interface ExportHeader {
  origin: string;
  verifierKey: string;
  /** Signed note. */
  checkpoint: string;
  /** Older notes of the same log, each with the cosignature lines of witnesses. */
  witnessed: readonly string[];
}

const MAX_WITNESSED = 200;

export interface ExportedEntry {
  index: number;
  /** Root of the largest perfect subtree that ends with this entry. */
  node: Uint8Array;
  bytes: Uint8Array;
}

/** First line, without its newline. */
export function headerLine(header: Omit<ExportHeader, 'witnessed'> & Partial<ExportHeader>): string {
  const { origin, verifierKey, checkpoint, witnessed = [] } = header;
  const some = witnessed.length === 0 ? {} : { witnessed };
  return JSON.stringify({ format: EXPORT_FORMAT, origin, verifierKey, checkpoint, ...some });
}

/** `INDEX HEX JSON`, without its newline. */
export function entryLine({ index, node, bytes }: ExportedEntry): string {
  return `${index} ${bytesToHex(node)} ${fromUtf8(bytes, `entry ${index}`)}`;
}

/** @throws AuditError AUDIT_FILE_MALFORMED. */
export function parseHeader(line: string): ExportHeader {
  let parsed: unknown;
  try {
    parsed = JSON.parse(line);
  } catch (cause) {
    throw malformed('The first line is not JSON.', 1, cause);
  }
  // Safe: every member is unknown until it is checked below.
  const header = parsed as Partial<Record<'format' | keyof ExportHeader, unknown>> | null;
  if (header === null || typeof header !== 'object' || header.format !== EXPORT_FORMAT) {
    throw malformed(`The first line does not say ${EXPORT_FORMAT}.`, 1);
  }
  const { origin, verifierKey, checkpoint, witnessed = [] } = header;
  if (typeof origin !== 'string' || typeof verifierKey !== 'string' || typeof checkpoint !== 'string') {
    throw malformed('The first line lacks origin, verifierKey or checkpoint.', 1);
  }
  if (!isNotes(witnessed)) throw malformed('The witnessed checkpoints are not a short list of notes.', 1);
  return { origin, verifierKey, checkpoint, witnessed };
}

const isNotes = (value: unknown): value is string[] =>
  Array.isArray(value) && value.length <= MAX_WITNESSED && value.every((note) => typeof note === 'string');

/**
 * The signed note that a kept file speaks of: a bare note, the first line of an export, or a whole export.
 * @param start the file, or as much of it as holds its first line. @throws AuditError AUDIT_FILE_MALFORMED.
 */
export function checkpointOf(start: string): string {
  // A note starts with the log's name, an export with its JSON header.
  return start.startsWith('{') ? parseHeader(start.split('\n', 1)[0]).checkpoint : start;
}

const ENTRY_LINE = /^(0|[1-9][0-9]{0,15}) ([0-9a-f]{64}) (\{.*\})$/su;

/** @throws AuditError AUDIT_FILE_MALFORMED. */
export function parseEntryLine(line: string, number: number): ExportedEntry {
  const match = ENTRY_LINE.exec(line);
  if (match === null) throw malformed('The line is not `INDEX HEX JSON`.', number);
  return { index: Number(match[1]), node: hexToBytes(match[2]), bytes: utf8(match[3]) };
}

function malformed(message: string, line: number, cause?: unknown): AuditError {
  return new AuditError('AUDIT_FILE_MALFORMED', message, {
    where: `line ${line}`,
    fix: 'Export the log again and keep the file byte for byte.',
    cause,
  });
}
