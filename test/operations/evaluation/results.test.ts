/** Mean and spread over splits, and the file that appears only when it is complete. */
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type EvaluationResult, openResultFile, summarise } from '../../../src/operations/evaluation/results.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veilrisk-test-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const line: EvaluationResult = {
  family: 'scorecard',
  mode: 'site',
  sites: 5,
  epsilon: 1,
  delta: 1e-6,
  aucMean: 0.9,
  aucSd: 0.01,
  fitSecondsMean: 0.2,
};

describe('summarise', () => {
  test('gives mean and sample standard deviation', () => {
    const fits = [0.7, 0.8, 0.9].map((auc, i) => ({ auc, seconds: i + 1 }));
    const { aucMean, aucSd, fitSecondsMean } = summarise(fits);
    expect(aucMean).toBeCloseTo(0.8, 14);
    expect(aucSd).toBeCloseTo(0.1, 14);
    expect(fitSecondsMean).toBe(2);
  });

  test('one split has no spread', () => {
    expect(summarise([{ auc: 0.8, seconds: 1 }])).toEqual({ aucMean: 0.8, aucSd: 0, fitSecondsMean: 1 });
  });
});

describe('openResultFile', () => {
  test('replaces the file at once and leaves nothing beside it', async () => {
    const path = join(folder, 'replaced', 'out.json');
    await mkdir(join(folder, 'replaced'));
    await writeFile(path, 'old');
    const file = await openResultFile(path);
    expect(await readFile(path, 'utf8')).toBe('old');
    await file.write([line]);
    expect(JSON.parse(await readFile(path, 'utf8'))).toEqual([line]);
    expect(await readdir(join(folder, 'replaced'))).toEqual(['out.json']);
  });

  test('follows a link instead of replacing it', async () => {
    await writeFile(join(folder, 'target.json'), 'old');
    await symlink('target.json', join(folder, 'link.json'));
    await (await openResultFile(join(folder, 'link.json'))).write([line]);
    expect(JSON.parse(await readFile(join(folder, 'target.json'), 'utf8'))).toEqual([line]);
  });

  test('refuses a folder that does not exist, and a folder', async () => {
    for (const path of [join(folder, 'absent', 'out.json'), folder]) {
      await expect(openResultFile(path)).rejects.toMatchObject({ code: 'FILE_UNREADABLE', where: path });
    }
  });

  test('a failure on the way leaves what was there', async () => {
    const inner = join(folder, 'vanishing');
    await mkdir(inner);
    const file = await openResultFile(join(inner, 'out.json'));
    await rm(inner, { recursive: true });
    await expect(file.write([line])).rejects.toMatchObject({ code: 'FILE_UNREADABLE' });
  });
});
