/**
 * Strict JSON: what JSON.parse takes, less what two readers could understand differently.
 *
 * Refused besides bad grammar: a duplicate key, a key named `__proto__`, nesting deeper than `MAX_DEPTH`, a number that
 * no double can hold, text that is not well-formed UTF-8 or Unicode, a byte order mark. These are the rules of I-JSON
 * (RFC 7493 sections 2.1 to 2.3), without which RFC 8785 has no canonical form and an idempotency key no meaning.
 * Limit: the caller bounds the length; time is linear in it.
 */
import { RequestError } from '../errors.ts';

const MAX_DEPTH = 16;

/** Parses one JSON text of UTF-8 bytes. Throws RequestError REQUEST_MALFORMED with the rule and the position, never the text. */
export function parseStrictJson(bytes: Uint8Array): unknown {
  const text = decode(bytes);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    // V8's message quotes the text around the fault, so it stays in `cause` and is never shown.
    throw malformed('The body is not valid JSON.', undefined, cause);
  }
  refuseAmbiguity(text);
  return value;
}

function decode(bytes: Uint8Array): string {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw malformed('The body is not valid UTF-8.', undefined, cause);
  }
  if (text.startsWith('\uFEFF')) throw malformed('The body starts with a byte order mark.', 0);
  return text;
}

/** Walks a text that JSON.parse has accepted: only what the grammar allows can follow, so the walk needs few states. */
function refuseAmbiguity(text: string): void {
  // One entry an open bracket: the keys seen in an object, null for an array.
  const open: (Set<string> | null)[] = [];
  let at = 0;
  while (at < text.length) {
    const char = text[at];
    if (char === '{' || char === '[') {
      if (open.push(char === '{' ? new Set() : null) > MAX_DEPTH) {
        throw malformed(`The body is nested deeper than ${MAX_DEPTH} levels.`, at);
      }
      at++;
    } else if (char === '}' || char === ']') {
      open.pop();
      at++;
    } else if (char === '"') {
      const end = endOfString(text, at);
      const string: string = JSON.parse(text.slice(at, end));
      if (!string.isWellFormed()) throw malformed('A string holds half a surrogate pair.', at);
      const keys = open.at(-1);
      if (keys && isKey(text, end)) refuseKey(keys, string, at);
      at = end;
    } else if (char === '-' || (char >= '0' && char <= '9')) {
      const end = endOfNumber(text, at);
      if (!Number.isFinite(Number(text.slice(at, end))))
        throw malformed('A number is outside the range of a double.', at);
      at = end;
    } else {
      at++;
    }
  }
}

function refuseKey(seen: Set<string>, key: string, at: number): void {
  if (key === '__proto__') throw malformed('A key is named __proto__.', at);
  if (seen.has(key)) throw malformed('A key occurs twice in one object.', at);
  seen.add(key);
}

function endOfString(text: string, start: number): number {
  let at = start + 1;
  while (text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
  return at + 1;
}

function endOfNumber(text: string, start: number): number {
  let at = start + 1;
  while (at < text.length && '0123456789.eE+-'.includes(text[at])) at++;
  return at;
}

/** In an object a string is a key exactly when the next thing that is not white space is a colon. */
function isKey(text: string, end: number): boolean {
  let at = end;
  while (text[at] === ' ' || text[at] === '\n' || text[at] === '\r' || text[at] === '\t') at++;
  return text[at] === ':';
}

function malformed(message: string, at?: number, cause?: unknown): RequestError {
  return new RequestError('REQUEST_MALFORMED', message, {
    where: at === undefined ? 'body' : `body, character ${at}`,
    fix: 'Send one JSON object (RFC 8259) that follows I-JSON (RFC 7493).',
    ...(cause !== undefined && { cause }),
  });
}
