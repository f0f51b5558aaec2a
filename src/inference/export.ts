/**
 * A dense model as an ONNX file: IR version 8, operator set 17 of the standard domain, Gemm, Relu and Sigmoid only.
 *
 * Source: the ONNX specification (docs/IR.md, docs/Operators.md of github.com/onnx/onnx); onnx.proto beside this file
 * is the part of onnx.proto3 that is used. Input `features`, float32 [N, width], in the order of the metadata entry
 * `veilrisk.features`; outputs `logit` and `probability`, float32 [N, 1].
 *
 * `veilrisk.sha256` is the SHA-256 of the file as it would be without that entry: it finds damage and edits by
 * accident. It is not a signature; whoever can write the file can write a new digest.
 */
import { create, toBinary } from '@bufbuild/protobuf';
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import { type DenseModel, denseHash, networkOfModel } from '../learning/sgd/model.ts';
import {
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  StringStringEntryProtoSchema,
  TensorProto_DataType,
  TensorProtoSchema,
  TensorShapeProtoSchema,
  TypeProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from './generated/onnx_pb.js';

export const DIGEST_KEY = 'veilrisk.sha256';
export const INPUT = 'features';
export const LOGIT = 'logit';
export const PROBABILITY = 'probability';

const IR_VERSION = 8n;
const OPERATOR_SET = 17n;

/** @returns the bytes of the file; the same model always gives the same bytes. @throws LearningError MODEL_INVALID. */
export function exportOnnx(model: DenseModel): Uint8Array {
  const { network } = networkOfModel(model);
  const last = network.layers.length - 1;
  const nodes: NodeProto[] = [];
  let from = INPUT;
  for (let l = 0; l <= last; l++) {
    const sum = l === last ? LOGIT : `sum${l}`;
    nodes.push(gemm([from, `weights${l}`, `biases${l}`], sum));
    from = `hidden${l}`;
    if (l < last) nodes.push(node('Relu', [sum], from));
  }
  nodes.push(node('Sigmoid', [LOGIT], PROBABILITY));
  const proto = create(ModelProtoSchema, {
    irVersion: IR_VERSION,
    opsetImport: [create(OperatorSetIdProtoSchema, { domain: '', version: OPERATOR_SET })],
    producerName: 'veilrisk',
    domain: 'veilrisk',
    modelVersion: 1n,
    graph: create(GraphProtoSchema, {
      name: model.family,
      node: nodes,
      initializer: network.layers.flatMap(({ inputs, outputs }, l) => [
        tensor(`weights${l}`, [inputs, outputs], model.layers[l].weights),
        tensor(`biases${l}`, [outputs], model.layers[l].biases),
      ]),
      input: [value(INPUT, model.features.length)],
      output: [value(LOGIT, 1), value(PROBABILITY, 1)],
    }),
    metadataProps: Object.entries(metadataOf(model)).map(([key, text]) => entry(key, text)),
  });
  proto.metadataProps.push(entry(DIGEST_KEY, digestOf(proto)));
  return toBinary(ModelProtoSchema, proto);
}

/** SHA-256 of the file without its digest entry, 64 lower-case hexadecimal digits. */
export function digestOf(proto: ModelProto): string {
  const metadataProps = proto.metadataProps.filter(({ key }) => key !== DIGEST_KEY);
  return bytesToHex(sha256(toBinary(ModelProtoSchema, { ...proto, metadataProps })));
}

function metadataOf(model: DenseModel): Record<string, string> {
  const { training } = model;
  return {
    'veilrisk.model': denseHash(model),
    'veilrisk.contract': model.contractHash,
    ...('planHash' in training
      ? { 'veilrisk.plan': training.planHash }
      : { 'veilrisk.settings': training.settingsHash }),
    'veilrisk.mode': training.mode,
    'veilrisk.epsilon': String(training.epsilon),
    'veilrisk.delta': String(training.delta),
    'veilrisk.unit': training.unit,
    'veilrisk.features': JSON.stringify(model.features),
  };
}

function entry(key: string, text: string) {
  return create(StringStringEntryProtoSchema, { key, value: text });
}

function gemm(input: string[], output: string): NodeProto {
  const made = node('Gemm', input, output);
  // Gemm without transposition: [N, inputs] times [inputs, outputs] plus biases broadcast over N.
  for (const name of ['alpha', 'beta']) {
    made.attribute.push(create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.FLOAT, f: 1 }));
  }
  return made;
}

function node(opType: string, input: string[], output: string): NodeProto {
  return create(NodeProtoSchema, { opType, input, output: [output], name: `${opType} ${output}` });
}

function tensor(name: string, dims: number[], values: readonly number[]) {
  const rawData = new Uint8Array(values.length * 4);
  const view = new DataView(rawData.buffer);
  values.forEach((number, i) => {
    view.setFloat32(4 * i, number, true);
  });
  return create(TensorProtoSchema, { name, dims: dims.map(BigInt), dataType: TensorProto_DataType.FLOAT, rawData });
}

/** A float32 matrix of any number of rows. */
function value(name: string, width: number): ValueInfoProto {
  const shape = create(TensorShapeProtoSchema, {
    dim: [{ value: { case: 'dimParam', value: 'N' } }, { value: { case: 'dimValue', value: BigInt(width) } }],
  });
  const tensorType = { elemType: TensorProto_DataType.FLOAT, shape };
  return create(ValueInfoProtoSchema, {
    name,
    type: create(TypeProtoSchema, { value: { case: 'tensorType', value: tensorType } }),
  });
}
