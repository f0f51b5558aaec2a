/**
 * The audit accuses what is broken and not what is sound, through the threads and the command.
 *
 * With fresh randomness, at confidence 1 - 10^-9: a sound mechanism is accused with probability below 10^-9. At epsilon 4
 * and 6,000 trials of each kind a fault that doubles mu is six standard errors and more from being missed.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from '@jest/globals';
import { auditMechanisms, FAULTS, judge, MECHANISMS } from '../../src/operations/privacyAudit.ts';
import { openCanary } from '../../src/workers/audit/canaries.ts';
import { seededRandom } from '../support/publicData.ts';

const OPTIONS = { epsilon: 4, delta: 1e-6, trials: 12_000, confidence: 1 - 1e-9 };

describe('the audit', () => {
  test('finds every fault in every mechanism, and none where there is none', async () => {
    const wanted = MECHANISMS.flatMap((mechanism) => FAULTS.map((broken) => ({ mechanism, broken })));
    const shares: number[] = [];
    const reports = await auditMechanisms(wanted, OPTIONS, (_, share) => shares.push(share));
    expect(reports).toHaveLength(wanted.length);
    for (const { mechanism, broken, contradicts } of reports) {
      expect({ mechanism, broken, accused: contradicts.length > 0 }).toEqual({
        ...{ mechanism, broken },
        accused: broken !== 'none',
      });
    }
    // A tenth of the noise contradicts (epsilon, delta) itself, without any assumption.
    for (const { broken, contradicts } of reports) if (broken === 'noise') expect(contradicts).toContain('epsilon');
    expect(shares.every((share, i) => i === 0 || share >= shares[i - 1])).toBe(true);
    expect(shares.at(-1)).toBe(1);
  }, 240_000);

  test('comes close: what is proved of a sound gradient is most of what is promised', () => {
    const setting = { mechanism: 'round', broken: 'none', epsilon: 8, delta: 1e-6 } as const;
    const canary = openCanary(setting);
    const random = seededRandom(3);
    const draw = (isPresent: boolean) => Float64Array.from({ length: 20_000 }, () => canary.trial(isPresent, random));
    const verdict = judge(canary.promised(), { without: draw(false), with: draw(true) }, 1 - 1e-6);
    expect(verdict.contradicts).toEqual([]);
    expect(verdict.booked.kind).toBe('mu');
    expect(verdict.booked.proved / verdict.booked.promised).toBeGreaterThan(0.8);
    expect(verdict.epsilonLowerBound).toBeGreaterThan(1.5);
  });

  test('refuses options that no verdict can be given for', async () => {
    const sound = [{ mechanism: 'counts', broken: 'none' }] as const;
    for (const wrong of [{ trials: 10 }, { trials: Number.NaN }, { confidence: 1 }, { confidence: 0 }]) {
      await expect(auditMechanisms(sound, { ...OPTIONS, ...wrong })).rejects.toMatchObject({ code: 'USAGE' });
    }
    await expect(auditMechanisms(sound, { ...OPTIONS, epsilon: -1 })).rejects.toMatchObject({
      code: 'PRIVACY_PARAMETER',
    });
  });
});

describe('the command', () => {
  const run = promisify(execFile);
  const root = join(import.meta.dirname, '../..');
  const audit = (...flags: string[]) =>
    run(
      process.execPath,
      [
        'src/main.ts',
        'privacy-audit',
        '--mechanism',
        'counts',
        '--trials',
        '4000',
        '--confidence',
        `${1 - 1e-9}`,
        ...flags,
      ],
      { cwd: root },
    );

  test('ends with 0 where nothing is found, and says what that means', async () => {
    const { stdout } = await audit();
    expect(stdout).toContain('nothing found');
    expect(stdout).toContain('no proof of privacy');
  });

  test('ends with 1 and PRIVACY_VIOLATED on a proof, with the report as JSON', async () => {
    const failure = await audit('--broken', 'noise', '--json').then(
      () => null,
      (error: { code: number; stdout: string; stderr: string }) => error,
    );
    expect(failure?.code).toBe(1);
    expect(failure?.stderr).toContain('PRIVACY_VIOLATED');
    const [report] = JSON.parse(failure?.stdout ?? '[]');
    expect(report).toMatchObject({ mechanism: 'counts', broken: 'noise', contradicts: ['epsilon', 'mu'] });
    expect(report.epsilonLowerBound).toBeGreaterThan(report.promised.epsilon);
  });

  test('a self-test that misses a fault for lack of trials says so', async () => {
    const failure = await audit('--self-test', '--epsilon', '0.05').then(
      () => null,
      (error: { code: number; stdout: string; stderr: string }) => error,
    );
    expect(failure?.code).toBe(1);
    expect(failure?.stderr).toContain('AUDIT_INCONCLUSIVE');
    expect(failure?.stdout).toContain('NO');
  });
});
