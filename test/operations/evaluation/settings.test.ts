/** Options of an evaluation, refused before any data is read. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  checkSettings,
  type EvaluationSettings,
  parseEpsilons,
  parseFamilies,
  parseModes,
} from '../../../src/operations/evaluation/settings.ts';

const sound: EvaluationSettings = {
  families: ['scorecard'],
  modes: ['sum'],
  epsilons: [1],
  delta: 1e-6,
  sites: 5,
  colluders: 0,
  dropouts: 0,
  splits: 5,
  seed: 1,
  jobs: 1,
  maxRejected: 0,
  reference: true,
};

describe('lists', () => {
  test('every list of numbers in range is read back', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.double({ min: 0.01, max: 100, noNaN: true }), { minLength: 1 }), (numbers) => {
        expect(parseEpsilons(numbers.join(','))).toEqual(numbers);
        expect(parseEpsilons(numbers.join(' , '))).toEqual(numbers);
      }),
      { seed: 1 },
    );
  });

  test.each([
    '',
    '1,',
    ',1',
    '1,,2',
    '0',
    '-1',
    '0.001',
    '101',
    'NaN',
    'Infinity',
    '0x1',
    '1;2',
    '1 2',
    '1,1',
    '1e',
    'one',
  ])('refuses the epsilons "%s"', (text) => {
    expect(() => parseEpsilons(text)).toThrow('--epsilon');
  });

  test('families and modes are known names, each once', () => {
    expect(parseFamilies('scorecard, logistic,mlp,adassp')).toEqual(['scorecard', 'logistic', 'mlp', 'adassp']);
    expect(parseModes('site,sum,single')).toEqual(['site', 'sum', 'single']);
    expect(() => parseFamilies('tree')).toThrow('"tree" is not known');
    expect(() => parseModes('Site')).toThrow('"Site" is not known');
    expect(() => parseModes('site,site')).toThrow('twice');
  });
});

describe('checkSettings', () => {
  test('takes what is in range', () => {
    expect(() => checkSettings(sound)).not.toThrow();
    expect(() => checkSettings({ ...sound, colluders: 2, dropouts: 2 })).not.toThrow();
  });

  test.each<[string, Partial<EvaluationSettings>]>([
    ['--delta', { delta: 0 }],
    ['--delta', { delta: 0.5 }],
    ['--sites', { sites: 0 }],
    ['--sites', { sites: 101 }],
    ['--sites', { colluders: 3, dropouts: 2 }],
    ['--mode', { modes: ['site'], colluders: 1 }],
    ['--splits', { splits: 0 }],
    ['--jobs', { jobs: 0 }],
    ['--max-rejected', { maxRejected: 1 }],
    ['--max-rejected', { maxRejected: -0.1 }],
  ])('refuses by %s %j', (option, wrong) => {
    expect(() => checkSettings({ ...sound, ...wrong })).toThrow(option);
  });
});
