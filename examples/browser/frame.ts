/**
 * The request frame as the node gets it, for people: the header field by field, and the first bytes of the ciphertext.
 *
 * Source: src/encryption/FORMAT.md, sections 3 and 4.
 */
import { element } from './dom.ts';

/** Offset, length and name of the header's fields; what stands in them is public. */
const FIELDS: readonly (readonly [at: number, bytes: number, name: string])[] = [
  [0, 8, 'format'],
  [8, 4, 'transactions'],
  [12, 4, 'dimensions'],
  [24, 32, 'key id'],
  [56, 32, 'contract hash'],
  [88, 32, 'model hash'],
];
const HEADER_BYTES = 120;
/** SEAL's own preamble stands before the residues. */
const PREAMBLE_BYTES = 113;
const SHOWN_BYTES = 192;

export function showFrame(frame: Uint8Array, into: HTMLElement): void {
  const view = new DataView(frame.buffer, frame.byteOffset);
  const parts = view.getUint32(16, true);
  const secret = HEADER_BYTES + 4 * parts + PREAMBLE_BYTES;
  const rest = (frame.length - secret - SHOWN_BYTES).toLocaleString('en');
  into.replaceChildren(
    ...FIELDS.flatMap(([at, bytes, name]) => {
      // A number says what it is; of the rest only the bytes are of interest.
      const value = bytes === 4 ? ` = ${view.getUint32(at, true)}` : '';
      return [
        element('dt', { textContent: name }),
        element('dd', { className: 'hex', textContent: hexOf(frame.subarray(at, at + bytes)) + value }),
      ];
    }),
    element('dt', { className: 'wide', textContent: 'your transaction' }),
    element('dd', { className: 'hex secret', textContent: hexOf(frame.subarray(secret, secret + SHOWN_BYTES)) }),
    element('dd', {
      className: 'more',
      textContent: `and ${rest} bytes more. Score it again: other numbers stand here.`,
    }),
  );
}

/** In groups of four bytes, so that lines wrap between them. */
function hexOf(bytes: Uint8Array): string {
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/.{8}(?=.)/g, '$& ');
}
