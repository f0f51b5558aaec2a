/**
 * Services that leave out one protection each and are otherwise the real thing: what the attacks succeed against.
 *
 * They speak the same frames. Where a protection is left out the rest is the arithmetic of scorer.ts.
 */
import loadStrictSeal from 'node-seal/throws';
import { discreteGaussianPowerOfTwo } from '../../src/encryption/flood.ts';
import { columnWeight, type LinearModel, productShape, rowWeights } from '../../src/encryption/model.ts';
import { type Preset, productBits } from '../../src/encryption/presets.ts';
import { polynomialOf } from '../../src/encryption/residues.ts';
import {
  type Ciphertext,
  ciphertextResidues,
  loadCiphertext,
  loadPlaintext,
  Scope,
  type SealRuntime,
} from '../../src/encryption/seal.ts';
import { bytesOf } from '../../src/encryption/sealBytes.ts';
import { readFrame, replyCounts, resultStride } from '../../src/encryption/wire.ts';
import { EncryptionError } from '../../src/errors.ts';
import { systemRandom } from '../../src/random.ts';
import { seededRandom } from './support.ts';

/** What each of them does not do. */
export type Stripped =
  | 'only multiplies'
  | 'does not re-randomise'
  | 'masks in real slots'
  | 'refuses zero products'
  | 'uses one zero for all replies'
  | 'does not cut';

export interface StrippedJob {
  readonly model: LinearModel;
  readonly publicKey: Uint8Array;
  readonly request: Uint8Array;
}

export async function openStripped(runtime: SealRuntime, how: Stripped): Promise<(job: StrippedJob) => Uint8Array> {
  const refuseZero = how === 'refuses zero products' ? await strictProducts(runtime.preset) : () => undefined;
  const randomised = how !== 'only multiplies' && how !== 'does not re-randomise';
  const rescales = how !== 'only multiplies' && how !== 'masks in real slots';
  let kept: Uint8Array | undefined;

  function zero(publicKey: Uint8Array): Uint8Array {
    if (how === 'uses one zero for all replies' && kept !== undefined) return kept;
    using scope = new Scope();
    const open = scope.own(new runtime.seal.PublicKey());
    open.loadFromArray(runtime.context, publicKey);
    const fresh = scope.own(new runtime.seal.Ciphertext());
    scope.own(new runtime.seal.Encryptor(runtime.context, open)).encryptZero(fresh);
    kept = fresh.saveToArray(runtime.seal.ComprModeType.none);
    // Safe: assigned in the line above.
    return kept!;
  }

  return ({ model, publicKey, request }) => {
    const { header, parts } = readFrame('request', request);
    const stride = resultStride(header);
    const products = header.layout === 'row' ? parts.map((part) => [part]) : [parts];
    const counts = replyCounts(header);
    const replies = products.map((uploads, p) => {
      using scope = new Scope();
      const load = (bytes: Uint8Array): Ciphertext => {
        const loaded = scope.own(new runtime.seal.Ciphertext());
        loaded.loadFromArray(runtime.context, bytes);
        return loaded;
      };
      const sum = load(uploads[0]);
      for (const [j, upload] of uploads.entries()) {
        const bytes =
          header.layout === 'row' ? rowWeights(runtime, model) : columnWeight(runtime.preset, model.weights[j]);
        refuseZero(upload, bytes, j);
        const term = j === 0 ? sum : load(upload);
        runtime.evaluator.multiplyPlainInplace(term, scope.own(loadPlaintext(runtime, bytes)));
        if (j > 0) runtime.evaluator.addInplace(sum, term);
      }
      if (randomised) {
        const nothing = load(zero(publicKey));
        nothing.setScale(2 ** productBits(runtime.preset));
        runtime.evaluator.addInplace(sum, nothing);
        mask(runtime, sum, how);
      }
      if (rescales) runtime.evaluator.rescaleToNextInplace(sum);
      else {
        // The library refuses to switch at a scale beyond the next level; the residues do not depend on it.
        sum.setScale(1);
        runtime.evaluator.cipherModSwitchToNextInplace(sum);
      }
      runtime.evaluator.cipherTransformFromNttInplace(sum);
      const residues = ciphertextResidues(runtime, sum);
      const { degree } = runtime.preset;
      const count = how === 'does not cut' ? degree : counts[p];
      const part = new BigUint64Array(count + degree);
      for (let i = 0; i < count; i++) part[i] = residues[i * (how === 'does not cut' ? 1 : stride)];
      part.set(residues.subarray(degree), count);
      return bytesOf(part);
    });
    return frame(request, replies);
  };
}

/** Adds what hides the error of the caller's ciphertext: the real flood, or the mask that the slot encoder makes. */
function mask(runtime: SealRuntime, sum: Ciphertext, how: Stripped): void {
  const { preset, evaluator } = runtime;
  const { degree } = preset;
  using scope = new Scope();
  if (how === 'masks in real slots') {
    // In the coefficients as wide as the real flood.
    const width = 2 ** (preset.floodBits - productBits(preset)) * Math.sqrt(degree / 2);
    const random = seededRandom(5);
    const slots = Float64Array.from({ length: degree / 2 }, () => width * (random.unit() - 0.5));
    const plaintext = scope.own(new runtime.seal.Plaintext());
    scope.own(new runtime.seal.CKKSEncoder(runtime.context)).encode(slots, 2 ** productBits(preset), plaintext);
    evaluator.addPlainInplace(sum, plaintext);
    return;
  }
  const random = systemRandom();
  const flood = Array.from(
    { length: degree },
    (_, i) => [i, discreteGaussianPowerOfTwo(preset.floodBits, random)] as const,
  );
  const both = new BigUint64Array(4 * degree);
  both.set(polynomialOf(degree, preset.primes.slice(0, 2), flood));
  const added = scope.own(loadCiphertext(runtime, productShape(preset), both, false));
  evaluator.cipherTransformToNttInplace(added);
  evaluator.addInplace(sum, added);
}

/** The library's strict build, which throws on a product that is zero. */
async function strictProducts(preset: Preset): Promise<(upload: Uint8Array, weight: Uint8Array, at: number) => void> {
  const seal = await loadStrictSeal();
  const parameters = new seal.EncryptionParameters(seal.SchemeType.ckks);
  parameters.setPolyModulusDegree(preset.degree);
  parameters.setCoeffModulus(seal.CoeffModulus.Create(preset.degree, Int32Array.from(preset.primeBits)));
  const context = new seal.SEALContext(parameters, true, seal.SecLevelType.tc128);
  const evaluator = new seal.Evaluator(context);
  return (upload, bytes, at) => {
    const [product, weight] = [new seal.Ciphertext(), new seal.Plaintext()];
    product.loadFromArray(context, upload);
    weight.loadFromArray(context, bytes);
    try {
      evaluator.multiplyPlainInplace(product, weight);
    } catch (cause) {
      throw new EncryptionError('CIPHERTEXT_MALFORMED', 'the product is transparent', {
        where: `ciphertext ${at}`,
        cause,
      });
    } finally {
      product.delete();
      weight.delete();
    }
  };
}

/** A reply frame with parts of any length: the real writer would refuse those of a service that does not cut. */
function frame(request: Uint8Array, parts: readonly Uint8Array[]): Uint8Array {
  const start = 120 + 4 * parts.length;
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, start));
  const view = new DataView(out.buffer);
  out.set(request.subarray(0, 120));
  out[5] = 2;
  view.setUint32(16, parts.length, true);
  let at = start;
  parts.forEach((part, i) => {
    view.setUint32(120 + 4 * i, part.length, true);
    out.set(part, at);
    at += part.length;
  });
  return out;
}
