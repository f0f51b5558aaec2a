/** Nothing prints a secret. */
import { inspect } from 'node:util';
import { describe, expect, test } from '@jest/globals';
import { EpochParticipant } from '../../federated/secagg/participant.ts';
import { SecretBytes } from '../../federated/secagg/secret.ts';
import { type RandomSource, systemRandom } from '../../src/random.ts';
import { epochOf, setUp, site, sumOf, valuesOf } from './epoch.ts';

/** A secret that would be seen: 0x5a everywhere, "ZZZZ", 90, 90, ... */
const telltale: RandomSource = { nextUint32: () => 0x5a5a5a5a, fill: (out) => void out.fill(0x5a) };
const traces = /5a5a|ZZ|90,\s*90|Wlpa/i;

describe('a secret', () => {
  test('prints its length and nothing else', () => {
    const secret = new SecretBytes(new Uint8Array(32).fill(0x5a));
    for (const printed of [
      `${secret}`,
      JSON.stringify({ secret }),
      inspect(secret),
      inspect({ secret }, { depth: 9, showHidden: true }),
      inspect([[secret]], { customInspect: false, showHidden: true, depth: 9 }),
    ]) {
      expect(printed).not.toMatch(traces);
    }
    expect(`${secret}`).toBe('[32 secret bytes]');
    expect(structuredClone({ ...secret })).toEqual({});
  });

  test('is zero once wiped', () => {
    const secret = new SecretBytes(new Uint8Array(8).fill(1));
    const view = secret.reveal(2, 4);
    secret.wipe();
    expect([...view, ...secret.reveal()]).toEqual(new Array(10).fill(0));
  });

  test('of a participant is not in what it prints', () => {
    const participant = new EpochParticipant(epochOf(3), 'bank-001', telltale);
    participant.advertise();
    for (const printed of [
      inspect(participant, { depth: 9, showHidden: true }),
      inspect(participant, { depth: 9, customInspect: false }),
      JSON.stringify(participant),
      String(participant),
    ]) {
      expect(printed).not.toMatch(traces);
    }
  });

  test('is drawn from the source that was passed in: with one source, one set of keys', () => {
    const keys = () => new EpochParticipant(epochOf(3), 'bank-001', telltale).advertise();
    expect(keys()).toEqual(keys());
  });
});

describe('a closed participant', () => {
  test('does nothing more', async () => {
    const epoch = await setUp(epochOf(3));
    const sum = sumOf(epoch);
    const one = site(epoch, 'bank-001') as EpochParticipant;
    one.mask(sum, valuesOf('bank-001', 5));
    one.close();
    one.close();
    const refused = expect.objectContaining({ code: 'SECAGG_CONTEXT' });
    expect(() => one.advertise()).toThrow(refused);
    expect(() => one.accept([])).toThrow(refused);
    expect(() => one.mask(sum, valuesOf('bank-001', 5))).toThrow(refused);
    expect(() => one.agree(sum, sum.members, 3)).toThrow(refused);
    expect(() => one.reveal(sum, [])).toThrow(refused);
    await expect(one.seal(epoch.list)).rejects.toEqual(refused);
  });

  test('while it seals gives no shares', async () => {
    const context = epochOf(3);
    const sites = context.roster.map((name) => new EpochParticipant(context, name, systemRandom()));
    const sealing = sites[0].seal(sites.map((one) => one.advertise()));
    sites[0].close();
    await expect(sealing).rejects.toMatchObject({ code: 'SECAGG_CONTEXT' });
  });
});
