/**
 * The request frame as the node gets it, for people: the header field by field, and the first bytes of the ciphertext.
 *
 * Source: src/encryption/FORMAT.md, sections 3 and 4.
 */
import { element } from './dom.ts';

/** Offsets of the header; what stands at each is public. */
const FIELDS: readonly (readonly [at: number, bytes: number, name: string])[] = [
  [0, 4, 'magic'],
  [4, 4, 'version, kind, preset, layout'],
  [8, 4, 'transactions'],
  [12, 4, 'dimensions'],
  [16, 8, 'ciphertexts, reserved'],
  [24, 32, 'key id'],
  [56, 32, 'contract hash'],
  [88, 32, 'model hash'],
];
const HEADER_BYTES = 120;
/** SEAL's own preamble stands before the residues. */
const PREAMBLE_BYTES = 113;
const SHOWN_BYTES = 192;

export function showFrame(frame: Uint8Array, into: HTMLElement): void {
  const parts = new DataView(frame.buffer, frame.byteOffset).getUint32(16, true);
  const secret = HEADER_BYTES + 4 * parts + PREAMBLE_BYTES;
  const rows = FIELDS.map(([at, bytes, name]) => row(name, frame.subarray(at, at + bytes)));
  into.replaceChildren(
    ...rows,
    row('your transaction', frame.subarray(secret, secret + SHOWN_BYTES), 'secret'),
    element('dd', {
      className: 'more',
      textContent: `and ${(frame.length - secret - SHOWN_BYTES).toLocaleString('en')} bytes more. Send the same again: all of these change.`,
    }),
  );
}

function row(name: string, bytes: Uint8Array, className = ''): DocumentFragment {
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0'));
  // Groups of four bytes may wrap anywhere between them.
  const groups = Array.from({ length: Math.ceil(hex.length / 4) }, (_, i) => hex.slice(4 * i, 4 * i + 4).join(''));
  const fragment = document.createDocumentFragment();
  fragment.append(
    element('dt', { textContent: name }),
    element('dd', { className: `hex ${className}`, textContent: groups.join(' ') }),
  );
  return fragment;
}
