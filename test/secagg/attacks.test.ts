/**
 * Attacks of an aggregator that wants one bank's vector. Each is one function that runs against a consortium of careless
 * sites, where it must succeed, and against one of ours, where it must not.
 */
import { describe, expect, test } from '@jest/globals';
import { maskKeyOf } from '../../federated/secagg/epoch.ts';
import { privateKey } from '../../federated/secagg/keys.ts';
import { applyMasks, type Mask } from '../../federated/secagg/masks.ts';
import { fromRing, unpackVector } from '../../federated/secagg/ring.ts';
import { recover } from '../../federated/secagg/shares.ts';
import { pairMask, type Reveal, type SumContext, selfMask, sumHash } from '../../federated/secagg/sum.ts';
import { SecaggError } from '../../src/errors.ts';
import { systemRandom } from '../../src/random.ts';
import { CarelessSite, type Flaw, foldedSeed } from './careless.ts';
import { type Epoch, epochOf, plainSum, runSum, setUp, site, sumOf, valuesOf } from './epoch.ts';

const DIMENSION = 8;
const VICTIM = 'bank-001';
const SECRET = valuesOf(VICTIM, DIMENSION);

/** Both consortia. @param flaw of every site of the first. */
async function consortia(flaw: Flaw, count: number): Promise<{ careless: Epoch; ours: Epoch }> {
  const context = epochOf(count);
  return {
    careless: await setUp(context, undefined, [], (name) => new CarelessSite(context, name, flaw)),
    ours: await setUp(context),
  };
}

/** The result of a step that ours may refuse. */
function attempt<Result>(step: () => Result): Result | undefined {
  try {
    return step();
  } catch (error) {
    if (error instanceof SecaggError) return undefined;
    throw error;
  }
}

function masking(epoch: Epoch, sum: SumContext) {
  const name = sumHash(epoch.context, epoch.listHash, sum);
  return { salt: epoch.context.rosterHash, name, members: sum.members };
}

function inputs(
  epoch: Epoch,
  sum: SumContext,
  values = (name: string) => valuesOf(name, sum.dimension),
  names = sum.members,
): Map<string, Uint32Array> {
  return new Map(
    names.map((name) => [name, unpackVector(site(epoch, name).mask(sum, values(name)), sum.dimension, sum.bits)]),
  );
}

/** What the asked sites open when told of these survivors. */
function opened(epoch: Epoch, sum: SumContext, survivors: readonly string[], asked = survivors): Reveal[] {
  const agreements = asked.flatMap((name) => {
    const agreement = attempt(() => site(epoch, name).agree(sum, survivors, 1));
    return agreement ? [{ site: name, agreement }] : [];
  });
  return asked.flatMap((name) => attempt(() => site(epoch, name).reveal(sum, agreements)) ?? []);
}

async function secretOf(epoch: Epoch, reveals: readonly Reveal[], list: keyof Reveal, owner: string) {
  const shares = reveals.flatMap((reveal) => reveal[list].filter((share) => share.site === owner));
  if (shares.length < epoch.context.threshold) return undefined;
  return recover(
    shares.map(({ share }) => share),
    epoch.context.threshold,
    owner,
  );
}

/** Takes the victim's masks off its input with its seed and its mask key. */
function single(epoch: Epoch, sum: SumContext, input: Uint32Array, seed: Uint8Array, key: Uint8Array): Float64Array {
  const context = masking(epoch, sum);
  const masks: Mask[] = epoch.list
    .filter((peer) => peer.site !== VICTIM && sum.members.includes(peer.site))
    .map((peer) => pairMask(context, VICTIM, peer.site, privateKey(key), maskKeyOf(peer, sum.slot)));
  return without(input, [...masks, selfMask(context, VICTIM, seed)]);
}

function without(input: Uint32Array, masks: readonly Mask[]): Float64Array {
  const words = input.slice();
  applyMasks(words, masks.map(opposite));
  return fromRing(words, 32);
}

function total(vectors: Iterable<Uint32Array>): Uint32Array {
  const sum = new Uint32Array(DIMENSION);
  for (const vector of vectors) for (let at = 0; at < DIMENSION; at++) sum[at] += vector[at];
  return sum;
}

function opposite({ seed, sign }: Mask): Mask {
  return { seed, sign: sign === 1 ? -1 : 1 };
}

describe('the aggregator does not learn one vector', () => {
  test('from values sent in clear', async () => {
    const attack = (epoch: Epoch) => fromRing(inputs(epoch, sumOf(epoch, { dimension: DIMENSION })).get(VICTIM)!, 32);
    const { careless, ours } = await consortia('clear', 3);
    expect(attack(careless)).toEqual(SECRET);
    expect(attack(ours)).not.toEqual(SECRET);
  });

  test('from one scalar used as the mask of all coordinates', async () => {
    // Differences of coordinates carry no mask.
    const attack = (epoch: Epoch) => {
      const input = inputs(epoch, sumOf(epoch, { dimension: DIMENSION })).get(VICTIM)!;
      return fromRing(
        input.map((word) => word - input[0]),
        32,
      );
    };
    const differences = SECRET.map((value) => value - SECRET[0]);
    const { careless, ours } = await consortia('scalar', 3);
    expect(attack(careless)).toEqual(differences);
    expect(attack(ours)).not.toEqual(differences);
  });

  test('from a mask seed folded to few bits', async () => {
    // Once a sum of two banks is opened, one pairwise mask is all that hides either vector. 14 bits fall within half a
    // second on one core, so the 28 bits of shipped ones in two hours and 32 in a day and a half. Ours have 256.
    const attack = async (epoch: Epoch) => {
      const sum = sumOf(epoch, { dimension: DIMENSION });
      const input = inputs(epoch, sum).get(VICTIM)!;
      const seed = await secretOf(epoch, opened(epoch, sum, sum.members), 'selfShares', VICTIM);
      const left = Uint32Array.from(without(input, [selfMask(masking(epoch, sum), VICTIM, seed!)]));
      for (let guess = 0; guess < 2 ** 14; guess++) {
        const values = without(left, [{ seed: foldedSeed(Uint8Array.of(guess & 0xff, guess >> 8)), sign: 1 }]);
        // A wrong guess passes with probability (401 / 2^32)^8 < 1e-56.
        if (values.every((value) => Math.abs(value) <= 200)) return values;
      }
      return undefined;
    };
    const { careless, ours } = await consortia('folded', 2);
    expect(await attack(careless)).toEqual(SECRET);
    expect(await attack(ours)).toBeUndefined();
  });

  test('from both shares of one peer in one slot', async () => {
    const attack = async (epoch: Epoch) => {
      const sum = sumOf(epoch, { dimension: DIMENSION });
      const input = inputs(epoch, sum).get(VICTIM)!;
      const others = sum.members.filter((name) => name !== VICTIM);
      const reveals = [...opened(epoch, sum, sum.members), ...opened(epoch, sum, others)];
      const seed = await secretOf(epoch, reveals, 'selfShares', VICTIM);
      const key = await secretOf(epoch, reveals, 'keyShares', VICTIM);
      return seed && key ? single(epoch, sum, input, seed, key) : undefined;
    };
    const { careless, ours } = await consortia('obedient', 4);
    expect(await attack(careless)).toEqual(SECRET);
    expect(await attack(ours)).toBeUndefined();
  });

  test('from two groups of sites told of different survivors, as a threshold of half the sites allows', async () => {
    const attack = async (epoch: Epoch) => {
      const sum = sumOf(epoch, { dimension: DIMENSION });
      const input = inputs(epoch, sum).get(VICTIM)!;
      const others = sum.members.filter((name) => name !== VICTIM);
      const reveals = [
        ...opened(epoch, sum, sum.members, [VICTIM, 'bank-002']),
        ...opened(epoch, sum, others, ['bank-003', 'bank-004']),
      ];
      const seed = await secretOf(epoch, reveals, 'selfShares', VICTIM);
      const key = await secretOf(epoch, reveals, 'keyShares', VICTIM);
      return seed && key ? single(epoch, sum, input, seed, key) : undefined;
    };
    const half = epochOf(4, { threshold: 2, minimum: 2 });
    const careless = await setUp(half, undefined, [], (name) => new CarelessSite(half, name, 'obedient'));
    expect(await attack(careless)).toEqual(SECRET);
    await expect(setUp(half)).rejects.toMatchObject({ code: 'SECAGG_KEYS' });
    expect(await attack(await setUp(epochOf(4)))).toBeUndefined();
  });

  test('of an earlier round from the mask key of a site that drops out in a later one', async () => {
    const attack = async (epoch: Epoch) => {
      const first = sumOf(epoch, { dimension: DIMENSION, round: 1, slot: 0 });
      const input = inputs(epoch, first).get(VICTIM)!;
      const seed = await secretOf(epoch, opened(epoch, first, first.members), 'selfShares', VICTIM);
      const second = sumOf(epoch, { dimension: DIMENSION, round: 2, slot: 1 });
      inputs(epoch, second);
      const others = second.members.filter((name) => name !== VICTIM);
      const key = await secretOf(epoch, opened(epoch, second, others), 'keyShares', VICTIM);
      // Honest sites open both: neither round did anything wrong.
      return single(epoch, first, input, seed!, key!);
    };
    const { careless, ours } = await consortia('oneKey', 4);
    expect(await attack(careless)).toEqual(SECRET);
    expect(await attack(ours)).not.toEqual(SECRET);
  });

  test('from a model that makes all others send zeros (arXiv 2111.07380)', async () => {
    // The victim is given its model, the others one on which they have nothing to say. They are enough to open all
    // self-masks, honestly: what protects the victim is that its masks do not cancel against theirs.
    const attack = async (epoch: Epoch, name = (sum: SumContext) => sum) => {
      const sum = sumOf(epoch, { dimension: DIMENSION });
      const dead = { ...sum, stateHash: new Uint8Array(32).fill(9) };
      const others = sum.members.filter((member) => member !== VICTIM);
      const words = total([
        ...inputs(epoch, dead, () => new Float64Array(DIMENSION), others).values(),
        ...inputs(epoch, sum, () => SECRET, [VICTIM]).values(),
      ]);
      const reveals = opened(epoch, dead, sum.members, others);
      const masks: Mask[] = [];
      for (const member of sum.members) {
        const seed = await secretOf(epoch, reveals, 'selfShares', member);
        masks.push(selfMask(masking(epoch, name(member === VICTIM ? sum : dead)), member, seed!));
      }
      return without(words, masks);
    };
    const { careless, ours } = await consortia('noModel', 4);
    expect(await attack(careless, (sum) => ({ ...sum, stateHash: new Uint8Array(32) }))).toEqual(SECRET);
    expect(await attack(ours)).not.toEqual(SECRET);
  });

  test.each(['after the first sum was opened', 'before either sum is opened'])(
    'from two sums of one round over different sites, masked %s',
    async (when) => {
      const attack = async (epoch: Epoch) => {
        const sums = [0, 1].map((slot) => sumOf(epoch, { dimension: DIMENSION, attempt: slot, slot }));
        const others = sums[0].members.filter((name) => name !== VICTIM);
        const mask = (sum: SumContext, names: readonly string[]) => attempt(() => inputs(epoch, sum, undefined, names));
        const early = when.startsWith('before') ? mask(sums[1], sums[1].members) : undefined;
        const vectors = [inputs(epoch, sums[0]), early];
        const results: Float64Array[] = [];
        for (const [at, survivors] of [sums[0].members, others].entries()) {
          const sum = sums[at];
          const masked = vectors[at] ?? mask(sum, sum.members);
          if (masked === undefined) return undefined;
          const reveals = opened(epoch, sum, survivors);
          const masks: Mask[] = [];
          for (const name of survivors) {
            const seed = await secretOf(epoch, reveals, 'selfShares', name);
            if (seed === undefined) return undefined;
            masks.push(selfMask(masking(epoch, sum), name, seed));
          }
          for (const name of sum.members.filter((member) => !survivors.includes(member))) {
            const key = (await secretOf(epoch, reveals, 'keyShares', name))!;
            for (const peer of epoch.list.filter((keys) => survivors.includes(keys.site))) {
              masks.push(pairMask(masking(epoch, sum), name, peer.site, privateKey(key), maskKeyOf(peer, sum.slot)));
            }
          }
          // A missing member's pairwise masks are in its peers' inputs with the other sign.
          const signed = masks.map((mask, place) => (place < survivors.length ? mask : opposite(mask)));
          results.push(without(total(survivors.map((name) => masked.get(name)!)), signed));
        }
        return results[0].map((value, at) => value - results[1][at]);
      };
      const { careless, ours } = await consortia('obedient', 4);
      expect(await attack(careless)).toEqual(SECRET);
      expect(await attack(ours)).toBeUndefined();
    },
  );

  test('from masks that are real numbers', async () => {
    // A real mask has a finite variance, so the input says which of two vectors was sent; a uniform mask on the ring says
    // nothing. 200 guesses: 100 right ones are expected of ours, and 150 or 50 happen with probability below 2e-12.
    const trials = 200;
    const random = systemRandom();
    const gaussian = () => {
      let sum = -6;
      for (let at = 0; at < 12; at++) sum += random.nextUint32() / 2 ** 32;
      return sum * 1000;
    };
    const guess = (input: Float64Array) => input.reduce((sum, value) => sum + value, 0) > (DIMENSION * 10_000) / 2;
    const epoch = await setUp(epochOf(2, { slots: trials }));
    let rightOnReal = 0;
    let rightOnOurs = 0;
    for (let slot = 0; slot < trials; slot++) {
      const large = random.nextUint32() % 2 === 1;
      const values = new Float64Array(DIMENSION).fill(large ? 10_000 : 0);
      if (guess(values.map((value) => value + gaussian())) === large) rightOnReal++;
      const masked = site(epoch, VICTIM).mask(sumOf(epoch, { dimension: DIMENSION, slot, round: slot }), values);
      if (guess(fromRing(unpackVector(masked, DIMENSION, 32), 32)) === large) rightOnOurs++;
    }
    expect(rightOnReal).toBe(trials);
    expect(Math.abs(rightOnOurs - trials / 2)).toBeLessThan(50);
  });
});

describe('a site lost during set-up', () => {
  test('does not abort the epoch', async () => {
    const attack = (context = epochOf(4), make?: (name: string) => CarelessSite) =>
      setUp(context, undefined, ['bank-002'], make);
    const context = epochOf(4);
    await expect(attack(context, (name) => new CarelessSite(context, name, 'allOrNothing'))).rejects.toThrow('aborted');
    const epoch = await attack();
    const sum = sumOf(epoch);
    expect(await runSum(epoch, sum).unmask()).toEqual(plainSum(['bank-001', 'bank-003', 'bank-004'], sum.dimension));
  });
});
