/**
 * Running an exported model in ONNX Runtime.
 *
 * A file is read and checked before the runtime sees it: it must be byte for byte what `exportOnnx` writes for its
 * own content (digest, canonical encoding, the expected operators, inputs and outputs), so damage, appended data and
 * foreign graphs are refused. The runtime, a native library, is loaded with the first session.
 * Limit: the digest is no signature. A caller that must know WHICH model it runs passes the expected hashes, taken
 * from a place that the writer of the file cannot change.
 */
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import type { InferenceSession } from 'onnxruntime-node';
import { LearningError } from '../errors.ts';
import { DIGEST_KEY, digestOf, INPUT, LOGIT, PROBABILITY } from './export.ts';
import { type ModelProto, ModelProtoSchema, type ValueInfoProto } from './generated/onnx_pb.js';

const OPERATORS = new Set(['Gemm', 'Relu', 'Sigmoid']);

/** What the caller knows of the file from elsewhere. */
export interface ExpectedModel {
  /** `denseHash` of the model. */
  modelHash?: string;
  contractHash?: string;
}

export interface OnnxModel {
  /** Entries of a feature vector. */
  readonly width: number;
  /** Names of the features, in order. */
  readonly features: readonly string[];
  readonly contractHash: string;
  readonly modelHash: string;
  /**
   * @param features row-major, rows * width.
   * @throws LearningError TRAINING_INPUT for another length, or after `close`.
   */
  logits(features: Float32Array, rows: number): Promise<Float32Array>;
  /** As `logits`, after the sigmoid. */
  probabilities(features: Float32Array, rows: number): Promise<Float32Array>;
  /** Frees the native session; a second call does nothing. */
  close(): Promise<void>;
}

/** @throws LearningError MODEL_INVALID, or MODEL_CONTRACT_MISMATCH when it is not the expected model. */
export async function openSession(bytes: Uint8Array, expected: ExpectedModel = {}): Promise<OnnxModel> {
  const { width, features, contractHash, modelHash } = checkFile(bytes, expected);
  const runtime = await import('onnxruntime-node');
  let session: InferenceSession | null;
  try {
    session = await runtime.InferenceSession.create(bytes, {
      executionProviders: ['cpu'],
      intraOpNumThreads: 1,
      interOpNumThreads: 1,
      // Refusals come back as errors; the runtime need not write to the terminal.
      logSeverityLevel: 4,
    });
  } catch (cause) {
    throw invalid('ONNX Runtime refuses the model', 'graph', cause);
  }

  async function run(output: string, data: Float32Array, rows: number): Promise<Float32Array> {
    if (session === null) throw new LearningError('TRAINING_INPUT', 'the session is closed', { where: 'session' });
    if (!Number.isInteger(rows) || rows < 0 || data.length !== rows * width) {
      throw new LearningError('TRAINING_INPUT', `the features must be rows times ${width} numbers`, {
        where: 'features',
      });
    }
    if (rows === 0) return new Float32Array(0);
    const feeds = { [INPUT]: new runtime.Tensor('float32', data, [rows, width]) };
    // The runtime writes into memory of ours: both outputs are float32 [rows, 1] (checkFile).
    const result = new Float32Array(rows);
    await session.run(feeds, { [output]: new runtime.Tensor('float32', result, [rows, 1]) });
    return result;
  }

  return {
    width,
    features,
    contractHash,
    modelHash,
    logits: (data, rows) => run(LOGIT, data, rows),
    probabilities: (data, rows) => run(PROBABILITY, data, rows),
    async close() {
      const open = session;
      session = null;
      await open?.release();
    },
  };
}

function checkFile(bytes: Uint8Array, expected: ExpectedModel) {
  let proto: ModelProto;
  let again: Uint8Array;
  try {
    proto = fromBinary(ModelProtoSchema, bytes);
    again = toBinary(ModelProtoSchema, proto);
  } catch (cause) {
    throw invalid('the file is not an ONNX model', '(file)', cause);
  }
  const metadata = new Map(proto.metadataProps.map(({ key, value }) => [key, value]));
  if (metadata.size !== proto.metadataProps.length || metadata.get(DIGEST_KEY) !== digestOf(proto)) {
    throw invalid('the digest in the file is not that of its content', DIGEST_KEY);
  }
  if (again.length !== bytes.length || again.some((byte, i) => byte !== bytes[i])) {
    throw invalid('the file is not in the form the exporter writes', '(file)');
  }
  const { graph } = proto;
  const [input, ...moreInputs] = graph?.input ?? [];
  const [logit, probability, ...moreOutputs] = graph?.output ?? [];
  const features = stringList(metadata.get('veilrisk.features'));
  if (
    graph === undefined ||
    moreInputs.length > 0 ||
    moreOutputs.length > 0 ||
    !isMatrix(input, INPUT, features.length) ||
    !isMatrix(logit, LOGIT, 1) ||
    !isMatrix(probability, PROBABILITY, 1) ||
    !graph.node.every(({ opType, domain }) => OPERATORS.has(opType) && domain === '')
  ) {
    throw invalid('the graph is not one the exporter writes', 'graph');
  }
  const contractHash = metadata.get('veilrisk.contract') ?? '';
  const modelHash = metadata.get('veilrisk.model') ?? '';
  for (const [where, wanted, found] of [
    ['contractHash', expected.contractHash, contractHash],
    ['modelHash', expected.modelHash, modelHash],
  ]) {
    if (wanted !== undefined && wanted !== found) {
      throw new LearningError('MODEL_CONTRACT_MISMATCH', 'the file holds another model than expected', {
        where: where ?? '(file)',
      });
    }
  }
  return { width: features.length, features, contractHash, modelHash };
}

function stringList(text: string | undefined): string[] {
  try {
    const list: unknown = JSON.parse(text ?? '');
    if (Array.isArray(list) && list.length > 0 && list.every((name) => typeof name === 'string')) return list;
  } catch (cause) {
    throw invalid('the feature names cannot be read', 'veilrisk.features', cause);
  }
  throw invalid('the feature names cannot be read', 'veilrisk.features');
}

function isMatrix(info: ValueInfoProto | undefined, name: string, width: number): boolean {
  if (info === undefined || info.name !== name || info.type?.value.case !== 'tensorType') return false;
  const { elemType, shape } = info.type.value.value;
  const column = shape?.dim[1]?.value;
  return elemType === 1 && shape?.dim.length === 2 && column?.case === 'dimValue' && column.value === BigInt(width);
}

function invalid(message: string, where: string, cause?: unknown): LearningError {
  return new LearningError('MODEL_INVALID', message, {
    where,
    fix: 'Export the model again.',
    ...(cause === undefined ? {} : { cause }),
  });
}
