/**
 * From transactions to logits over ciphertexts: contract, encoding, layout, upload, decryption.
 *
 * Limit: what this returns is the raw decoding of a CKKS ciphertext. It stays inside the SDK (client.ts rounds it) and
 * the measurement of errors; see encryption/THREATS.md on IND-CPA-D.
 */
import { binRecord, type Contract, layoutOf } from '../contract/contract.ts';
import {
  type Encryption,
  type FrameHeader,
  type LayoutName,
  MAX_INPUT_MASS,
  MEDIA_TYPE,
  maxTransactions,
  type PresetName,
  requestBytes,
  type SecretKey,
  type SparseVector,
} from '../encryption/encryption.ts';
import { ClientError, ContractError } from '../errors.ts';
import type { ServedModel } from './replies.ts';
import type { Service } from './service.ts';

export type Transaction = Readonly<Record<string, unknown>>;

const PATH = '/v1/scores/encrypted';
/** Largest request body a node takes. */
const LARGEST_BODY_BYTES = 64 * 1024 * 1024;

/**
 * One logit a transaction, in order.
 *
 * @throws ContractError RECORD_INVALID naming the transaction by its position; ClientError; EncryptionError
 */
export async function fetchLogits(
  service: Service,
  encryption: Encryption,
  key: SecretKey,
  model: ServedModel,
  transactions: readonly Transaction[],
  layout: LayoutName | undefined,
): Promise<Float64Array> {
  const preset = encryption.preset.name;
  const dimension = usableDimension(model, preset);
  const vectors = encode(model.contract, transactions);
  const chosen = layout ?? chooseLayout(preset, dimension, vectors.length);
  const most = maxTransactions(preset, chosen, dimension);
  const logits = new Float64Array(vectors.length);
  for (let first = 0; first < vectors.length; first += most) {
    const batch = vectors.slice(first, first + most);
    const header: FrameHeader = {
      preset,
      layout: chosen,
      transactions: batch.length,
      dimension,
      keyId: key.keyId,
      contractHash: model.contractHash,
      modelHash: model.hash,
    };
    const reply = await service.postBytes(PATH, MEDIA_TYPE, encryption.encryptRequest(key, header, batch), 'bytes');
    logits.set(encryption.decryptReply(key, header, reply), first);
  }
  return logits;
}

/**
 * Row below half a column's capacity: a column request always uploads one ciphertext a dimension, so until then it
 * moves more than twice the bytes of a row request, and saves the server less time than the upload takes.
 */
export function chooseLayout(preset: PresetName, dimension: number, transactions: number): LayoutName {
  const capacity = maxTransactions(preset, 'column', dimension);
  const bytes = requestBytes({ preset, layout: 'column', dimension, transactions: Math.min(transactions, capacity) });
  return transactions >= capacity / 2 && bytes <= LARGEST_BODY_BYTES ? 'column' : 'row';
}

/** One-hot vectors over the contract's bins. */
function encode(contract: Contract, transactions: readonly Transaction[]): SparseVector[] {
  const { offsets } = layoutOf(contract);
  return transactions.map((transaction, position) => {
    try {
      const { bins } = binRecord(contract, transaction);
      return Array.from(bins, (bin, field) => [offsets[field] + bin, 1] as const);
    } catch (error) {
      if (!(error instanceof ContractError)) throw error;
      throw new ContractError(error.code, error.message, {
        where: `transaction ${position}`,
        issues: error.issues,
        ...(error.fix === undefined ? {} : { fix: error.fix }),
      });
    }
  });
}

function usableDimension(model: ServedModel, preset: PresetName): number {
  const { total } = layoutOf(model.contract);
  const offered = model.encryption;
  const usable =
    offered?.presets.includes(preset) && offered.dimension === total && model.contract.fields.length <= MAX_INPUT_MASS;
  if (usable) return total;
  throw new ClientError('REPLY_MALFORMED', `the node's model cannot be scored encrypted at preset ${preset}`, {
    where: '/v1/models',
    fix: `The node offers ${offered?.presets.join(', ') || 'no preset'}; create keys for one of these.`,
  });
}
