/** Every mechanism states its guarantee, completely, and nobody draws noise without one. */
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { describe, expect, test } from '@jest/globals';

const root = join(import.meta.dirname, '../..');

interface Source {
  file: string;
  text: string;
  /** Heading that the file is the mechanism of. */
  guarantee: string | undefined;
  /** Headings that its first comment cites. */
  cited: string[];
}

const sources: Source[] = ['src', 'federated'].flatMap((folder) =>
  readdirSync(join(root, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts') && !entry.name.endsWith('.d.ts'))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => !path.includes('/generated/'))
    .map((path) => {
      const text = readFileSync(path, 'utf8');
      const comment = /^\s*(?:#!.*\n)?\/\*\*[\s\S]*?\*\//.exec(text)?.[0] ?? '';
      const line = /GUARANTEES\.md: ((?:"[^"]+"(?:,\s*(?:\*\s*)?)?)+)/.exec(comment)?.[1] ?? '';
      return {
        file: relative(root, path),
        text,
        guarantee: /^export const GUARANTEE = '(.+)';$/m.exec(text)?.[1],
        cited: [...line.matchAll(/"([^"]+)"/g)].map((match) => match[1]),
      };
    }),
);

const document = readFileSync(join(root, 'src/privacy/GUARANTEES.md'), 'utf8');
const sections = document
  .split(/^## /m)
  .slice(1)
  .map((section) => ({ heading: section.slice(0, section.indexOf('\n')).trim(), text: section }));
const headings = sections.map(({ heading }) => heading);

/** Headings of what reads no data: no neighbours, no sensitivity, and the loss is the data's. */
const ARITHMETIC = [
  'Gaussian accounting',
  'Rényi accounting',
  'Privacy loss distribution',
  'Discrete Fourier transform',
  'Composition of privacy losses',
  'Refinement',
  'Composition',
  'Noise calibration',
  'Budget',
];

describe('GUARANTEES.md', () => {
  test('has the headings that files name, each once, and no other', () => {
    const named = sources.flatMap(({ guarantee }) => guarantee ?? []);
    expect([...new Set(named)].sort()).toEqual([...headings].sort());
    expect(headings.length).toBeGreaterThan(6);
  });

  test('a mechanism cites its own heading in its first comment, and a citation is of a heading', () => {
    const silent = sources.filter(({ guarantee, cited }) => guarantee !== undefined && !cited.includes(guarantee));
    expect(silent.map(({ file }) => file)).toEqual([]);
    const dangling = sources.filter(({ cited }) => cited.some((heading) => !headings.includes(heading)));
    expect(dangling.map(({ file }) => file)).toEqual([]);
  });

  test.each(sections)('$heading says all it must', ({ heading, text }) => {
    const words = ['Precondition', 'Rounding', 'Not promised'];
    if (!ARITHMETIC.includes(heading)) words.push('Neighbours', 'Sensitivity', 'Loss');
    expect(words.filter((word) => !new RegExp(`^- \\*\\*${word}\\*\\*: \\S.{20,}`, 'm').test(text))).toEqual([]);
  });

  test('every file of the privacy room has one, but for number formats', () => {
    const without = sources.filter(({ file, cited }) => file.startsWith('src/privacy/') && cited.length === 0);
    expect(without.map(({ file }) => file).sort()).toEqual(['src/privacy/rational.ts']);
  });
});

describe('noise', () => {
  test('whoever draws or calibrates it cites the guarantee he gives', () => {
    const uncited = sources
      .filter(({ text }) =>
        /\b(addNoise|drawAround|discreteGaussianSampler|centredGaussianSampler|noiseFor|noiseMultiplierFor)\(/.test(
          code(text),
        ),
      )
      .filter(({ cited }) => cited.length === 0);
    expect(uncited.map(({ file }) => file)).toEqual([]);
  });

  test('nothing else in the node or the aggregator draws from a continuous law to hide data', () => {
    // Box-Muller, Laplace by logarithm of a uniform: floating-point noise leaks (Mironov 2012).
    const suspects = sources.filter(
      ({ file, text }) =>
        !file.startsWith('src/simulator/') && /Math\.log\([^()]*(nextUint32|[rR]andom)/.test(code(text)),
    );
    expect(suspects.map(({ file }) => file)).toEqual([]);
  });
});

function code(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '');
}
