/**
 * The framed bytes of an encrypted request and of its reply. FORMAT.md is the specification, with golden bytes.
 *
 * One parser for each direction, for attacker's input: a frame has exactly one encoding, every length is implied by
 * preset, layout, dimension and count and is compared with it, nothing may follow.
 * Limit: a frame is not authenticated by itself; it travels under TLS with an API key.
 */
import { EncryptionError } from '../errors.ts';
import { uploadShape } from './preamble.ts';
import { PRESETS, type PresetName, presetByCode, rowCapacity } from './presets.ts';
import { seededBytes } from './sealBytes.ts';

export const MEDIA_TYPE = 'application/vnd.veilrisk.encrypted-scores';

export type LayoutName = 'row' | 'column';
export type FrameKind = 'request' | 'reply';

export interface FrameHeader {
  readonly preset: PresetName;
  readonly layout: LayoutName;
  /** 1 to the number that the layout allows (`maxTransactions`). */
  readonly transactions: number;
  /** One-hot dimensions of a transaction, 1 to N. */
  readonly dimension: number;
  /** 64 hexadecimal digits each. */
  readonly keyId: string;
  readonly contractHash: string;
  readonly modelHash: string;
}

export interface Frame {
  readonly header: FrameHeader;
  /** Views into the frame's bytes. */
  readonly parts: readonly Uint8Array[];
}

const MAGIC = [0x56, 0x52, 0x45, 0x53]; // "VRES"
const VERSION = 1;
const HEADER_BYTES = 120;
const KINDS: readonly FrameKind[] = ['request', 'reply'];
const LAYOUTS: readonly LayoutName[] = ['row', 'column'];
/** Row ciphertexts in one request: what a worker answers well within its time limit. */
const MAX_ROW_CIPHERTEXTS = 64;

/** Transactions that one request may hold. */
export function maxTransactions(preset: PresetName, layout: LayoutName, dimension: number): number {
  if (layout === 'column') return PRESETS[preset].degree;
  return MAX_ROW_CIPHERTEXTS * rowCapacity(PRESETS[preset], dimension);
}

/** Bytes of a whole request, exact. */
export function requestBytes(header: Pick<FrameHeader, 'preset' | 'layout' | 'transactions' | 'dimension'>): number {
  return frameBytes(partLengths('request', header));
}

/** Most bytes a request for this many dimensions can have on any preset and layout: the limit of a request body. */
export function largestRequestBytes(dimension: number): number {
  const sizes = Object.values(PRESETS)
    .filter((preset) => dimension <= preset.degree)
    .flatMap(({ name: preset }) =>
      LAYOUTS.map((layout) =>
        requestBytes({ preset, layout, dimension, transactions: maxTransactions(preset, layout, dimension) }),
      ),
    );
  return Math.max(...sizes);
}

export function writeFrame(kind: FrameKind, header: FrameHeader, parts: readonly Uint8Array[]): Uint8Array {
  const lengths = partLengths(kind, header);
  if (parts.length !== lengths.length || parts.some((part, i) => part.length !== lengths[i])) {
    throw new EncryptionError('FRAME_MALFORMED', 'the parts are not those of the header', { where: kind });
  }
  const out = new Uint8Array(frameBytes(lengths));
  const view = new DataView(out.buffer);
  out.set(MAGIC, 0);
  out[4] = VERSION;
  out[5] = KINDS.indexOf(kind) + 1;
  out[6] = PRESETS[header.preset].code;
  out[7] = LAYOUTS.indexOf(header.layout) + 1;
  view.setUint32(8, header.transactions, true);
  view.setUint32(12, header.dimension, true);
  view.setUint32(16, parts.length, true);
  view.setUint32(20, 0, true);
  writeHash(out, 24, header.keyId);
  writeHash(out, 56, header.contractHash);
  writeHash(out, 88, header.modelHash);
  let at = HEADER_BYTES;
  for (const length of lengths) {
    view.setUint32(at, length, true);
    at += 4;
  }
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/**
 * Reads only the header, for finding key and model before the body is worked on.
 *
 * @throws EncryptionError FRAME_MALFORMED
 */
export function readFrameHeader(kind: FrameKind, bytes: Uint8Array): FrameHeader {
  if (bytes.length < HEADER_BYTES) refuse('length', kind);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (MAGIC.some((byte, i) => bytes[i] !== byte)) refuse('magic', kind);
  if (bytes[4] !== VERSION) refuse('version', kind);
  if (bytes[5] !== KINDS.indexOf(kind) + 1) refuse('kind', kind);
  const preset = presetByCode(bytes[6]);
  if (preset === undefined) refuse('preset', kind);
  const layout = LAYOUTS[bytes[7] - 1];
  if (layout === undefined) refuse('layout', kind);
  const transactions = view.getUint32(8, true);
  const dimension = view.getUint32(12, true);
  if (dimension < 1 || dimension > preset.degree) refuse('dimension', kind);
  if (transactions < 1 || transactions > maxTransactions(preset.name, layout, dimension)) refuse('transactions', kind);
  if (view.getUint32(20, true) !== 0) refuse('reserved', kind);
  const [keyId, contractHash, modelHash] = [24, 56, 88].map((at) => readHash(bytes, at));
  return { preset: preset.name, layout, transactions, dimension, keyId, contractHash, modelHash };
}

/** @throws EncryptionError FRAME_MALFORMED naming the field */
export function readFrame(kind: FrameKind, bytes: Uint8Array): Frame {
  const header = readFrameHeader(kind, bytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const lengths = partLengths(kind, header);
  if (view.getUint32(16, true) !== lengths.length) refuse('ciphertexts', kind);
  if (bytes.length !== frameBytes(lengths)) refuse('length', kind);
  const parts: Uint8Array[] = [];
  let at = HEADER_BYTES + 4 * lengths.length;
  lengths.forEach((length, i) => {
    if (view.getUint32(HEADER_BYTES + 4 * i, true) !== length) refuse('ciphertext lengths', kind);
    parts.push(bytes.subarray(at, at + length));
    at += length;
  });
  return { header, parts };
}

/** Transactions in each row ciphertext of a request. */
export function rowCounts(header: Pick<FrameHeader, 'preset' | 'transactions' | 'dimension'>): number[] {
  const capacity = rowCapacity(PRESETS[header.preset], header.dimension);
  const full = Math.ceil(header.transactions / capacity);
  return Array.from({ length: full }, (_, i) => Math.min(capacity, header.transactions - i * capacity));
}

/** Results in each part of a reply. */
export function replyCounts(header: Pick<FrameHeader, 'preset' | 'layout' | 'transactions' | 'dimension'>): number[] {
  return header.layout === 'column' ? [header.transactions] : rowCounts(header);
}

/** The coefficient of a part that holds its i-th result is i times this. */
export function resultStride(header: Pick<FrameHeader, 'layout' | 'dimension'>): number {
  return header.layout === 'column' ? 1 : header.dimension;
}

/** A reply part keeps one coefficient of c0 a transaction and all of c1: what is not counted is not sent. */
function partLengths(
  kind: FrameKind,
  header: Pick<FrameHeader, 'preset' | 'layout' | 'transactions' | 'dimension'>,
): number[] {
  const preset = PRESETS[header.preset];
  if (kind === 'request') {
    const count = header.layout === 'row' ? rowCounts(header).length : header.dimension;
    return Array.from({ length: count }, () => seededBytes(uploadShape(preset)));
  }
  return replyCounts(header).map((count) => 8 * (count + preset.degree));
}

function frameBytes(lengths: readonly number[]): number {
  return lengths.reduce((sum, length) => sum + length + 4, HEADER_BYTES);
}

function refuse(field: string, kind: FrameKind): never {
  throw new EncryptionError('FRAME_MALFORMED', `the ${field} of the frame is wrong`, {
    where: `${kind} frame, ${field}`,
    fix: 'Build the frame as src/encryption/FORMAT.md says, or with the SDK.',
  });
}

function writeHash(out: Uint8Array, at: number, hex: string) {
  if (!/^[0-9a-f]{64}$/.test(hex)) {
    throw new EncryptionError('FRAME_MALFORMED', 'a hash is not 64 hexadecimal digits', { where: `offset ${at}` });
  }
  for (let i = 0; i < 32; i++) out[at + i] = Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16);
}

function readHash(bytes: Uint8Array, at: number): string {
  return Array.from(bytes.subarray(at, at + 32), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
