/**
 * Public keys at a node, registered and replaced without their secret halves: for a key file that stays closed.
 *
 * Limit: that the secret half exists and can be read is not shown by this; whoever registers a key has to keep its file.
 */
import type { PresetName } from '../encryption/encryption.ts';
import { type KeyReply, parseKey, parseRotation, type Rotation } from './replies.ts';
import type { Service } from './service.ts';

/** As `publicPart` reads it from a key file, or a `SecretKey`, of which only this is used. */
export interface PublicPart {
  readonly keyId: string;
  readonly preset: PresetName;
  readonly publicKey: Uint8Array;
}

const BINARY = 'application/octet-stream';

/** @throws ClientError */
export async function registerPublicKey(
  service: Service,
  { keyId, publicKey }: PublicPart,
  { days }: { days?: number | undefined } = {},
): Promise<KeyReply> {
  const path = '/v1/keys';
  const call = { headers: daysHeader(days), body: { type: BINARY, bytes: publicKey } };
  return parseKey(path, await service.json('POST', path, call), keyId);
}

/** Registers `next` in the place of the key `oldId`. @throws ClientError */
export async function rotatePublicKey(
  service: Service,
  oldId: string,
  next: PublicPart,
  { days, graceHours }: { days?: number | undefined; graceHours?: number | undefined } = {},
): Promise<Rotation> {
  const path = `/v1/keys/${oldId}/rotation`;
  const grace = graceHours === undefined ? {} : { 'veilrisk-grace-hours': String(graceHours) };
  const call = { headers: { ...daysHeader(days), ...grace }, body: { type: BINARY, bytes: next.publicKey } };
  return parseRotation(path, await service.json('POST', path, call), oldId, next.keyId);
}

function daysHeader(days: number | undefined): Record<string, string> {
  return days === undefined ? {} : { 'veilrisk-key-days': String(days) };
}
