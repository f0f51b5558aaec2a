import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parseStrictJson } from '../../src/api/json.ts';
import { RequestError } from '../../src/errors.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
const parse = (text: string) => parseStrictJson(bytes(text));

function refusal(body: string | Uint8Array): RequestError {
  try {
    parseStrictJson(typeof body === 'string' ? bytes(body) : body);
  } catch (error) {
    expect(error).toBeInstanceOf(RequestError);
    return error as RequestError;
  }
  throw new RequestError('INTERNAL', 'the body was accepted');
}

describe('strict JSON', () => {
  test('reads what JSON.parse reads, for any value with distinct keys', () => {
    const finite = fc.letrec((tie) => ({
      value: fc.oneof(
        { maxDepth: 4 },
        fc.double({ noNaN: true, noDefaultInfinity: true }),
        fc.integer(),
        fc.string({ unit: 'grapheme' }),
        fc.boolean(),
        fc.constant(null),
        fc.array(tie('value'), { maxLength: 5 }),
        fc.dictionary(
          fc.string({ unit: 'grapheme' }).filter((key) => key !== '__proto__'),
          tie('value'),
          { maxKeys: 5 },
        ),
      ),
    })).value;
    fc.assert(
      fc.property(finite, fc.constantFrom(0, 1, '\t'), (value, indent) => {
        const text = JSON.stringify(value, null, indent);
        expect(parse(text)).toEqual(JSON.parse(text));
      }),
    );
  });

  test('finds a duplicate of any key at any place, however it is escaped', () => {
    const escaped = (key: string) =>
      `"${[...Array(key.length).keys()].map((i) => `\\u${key.charCodeAt(i).toString(16).padStart(4, '0')}`).join('')}"`;
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 1 }), fc.integer({ min: 0, max: 5 }), (key, depth) => {
        fc.pre(key !== '__proto__');
        const inner = `{${JSON.stringify(key)} : 1, "other${key}": "a:\\"b", ${escaped(key)} : 2}`;
        expect(refusal(`${'{"a":['.repeat(depth)}${inner}${']}'.repeat(depth)}`).code).toBe('REQUEST_MALFORMED');
      }),
    );
  });

  test('the same key in two objects is no duplicate, and a value that looks like a key is none', () => {
    expect(parse('{"a":{"a":1},"b":[{"a":1},{"a":2}],"c":"a","d":"a"}')).toBeTruthy();
    expect(parse('{"a":"{\\"a\\":1,\\"a\\":2}"}')).toEqual({ a: '{"a":1,"a":2}' });
  });

  test.each([
    ['no JSON', '{"a":'],
    ['nothing', ''],
    ['NaN', '{"a":NaN}'],
    ['Infinity', '{"a":-Infinity}'],
    ['a number over the range of a double', '{"a":1e999}'],
    ['the same, negative, in an array', '[1,-1e400]'],
    ['a __proto__ key', '{"__proto__":{"admin":true}}'],
    ['an escaped __proto__ key', '{"\\u005f_proto__":1}'],
    ['half a surrogate pair', '{"a":"\\ud800"}'],
    ['a byte order mark', '\uFEFF{}'],
    ['17 levels', '['.repeat(17) + ']'.repeat(17)],
    ['60,000 levels', '['.repeat(60_000) + ']'.repeat(60_000)],
    ['trailing text', '{} {}'],
  ])('refuses %s', (_name, text) => {
    expect(refusal(text).code).toBe('REQUEST_MALFORMED');
  });

  test('refuses bytes that are not UTF-8', () => {
    expect(refusal(Uint8Array.of(0x22, 0xc3, 0x28, 0x22)).code).toBe('REQUEST_MALFORMED');
    expect(refusal(Uint8Array.of(0x22, 0xc0, 0x80, 0x22)).code).toBe('REQUEST_MALFORMED');
  });

  test('repeats nothing of the body', () => {
    const error = refusal('{"pan":"4111111111111111","pan":"4111111111111111"}');
    expect(JSON.stringify([error.message, error.where, error.fix])).not.toContain('4111');
    const broken = refusal('{"pan":4111111111111111oops}');
    expect(JSON.stringify([broken.message, broken.where, broken.fix])).not.toContain('4111');
  });

  test('is linear in the length: 2 MB of one string or of many keys take well under a second', () => {
    const start = performance.now();
    parse(JSON.stringify('\\"'.repeat(500_000)));
    parse(JSON.stringify(Object.fromEntries([...Array(100_000).keys()].map((i) => [`key${i}`, i]))));
    expect(performance.now() - start).toBeLessThan(2_000);
  });
});
