import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type RunningApi, serveApi } from '../../src/api/server.ts';
import { openLog } from '../../src/log.ts';
import { createApiKey } from '../../src/operations/apiKeys.ts';
import {
  createKeyFile,
  listKeys,
  openSecretKey,
  readPublicPart,
  registerKeyFile,
  revokeKey,
  rotateKeyFile,
} from '../../src/operations/callerKeys.ts';
import { type EncryptionPool, openEncryptionPool } from '../../src/workers/encryptionPool.ts';
import { usePostgres } from '../support/postgres.ts';
import { openTestNode, type TestNode } from './node.ts';

const postgres = usePostgres();
const PASSPHRASE = 'long enough to be one';
let folder: string;
let pool: EncryptionPool;
let node: TestNode;
let api: RunningApi;
let service: { url: string; apiKey: string };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veilrisk-keys-'));
  pool = openEncryptionPool({ threads: 1, timeoutMs: 30_000, queueLimit: 8, log: openLog('test', 'silent') });
  node = await openTestNode(await postgres.freshDatabase(), pool);
  api = await serveApi(node, { host: '127.0.0.1', port: 0 });
  const { key } = await createApiKey(node, { name: 'partner', scopes: ['keys'], actor: 'test' });
  service = { url: api.url, apiKey: key };
  await createKeyFile(at('first.vrk'), 'standard', PASSPHRASE);
});

afterAll(async () => {
  await api?.close();
  await node?.close();
  await pool?.close();
  await rm(folder, { recursive: true, force: true });
});

const at = (name: string) => join(folder, name);

test('a key file is private, whole, and gives its key for the passphrase only', async () => {
  expect((await stat(at('first.vrk'))).mode & 0o777).toBe(0o600);
  expect(await readdir(folder)).toEqual(['first.vrk']);
  const { keyId, preset } = await readPublicPart(at('first.vrk'));
  const key = await openSecretKey(at('first.vrk'), PASSPHRASE);
  expect([key.keyId, key.preset]).toEqual([keyId, preset]);
  const wrong = openSecretKey(at('first.vrk'), 'another');
  await expect(wrong).rejects.toMatchObject({ code: 'PASSPHRASE_WRONG', where: expect.stringContaining('first.vrk') });
  await expect(wrong).rejects.not.toMatchObject({ message: expect.stringContaining('another') });
});

test('a file that exists is not overwritten, and a refused one leaves nothing', async () => {
  const before = await readFile(at('first.vrk'));
  await expect(createKeyFile(at('first.vrk'), 'standard', PASSPHRASE)).rejects.toMatchObject({
    code: 'ALREADY_EXISTS',
  });
  expect(await readFile(at('first.vrk'))).toEqual(before);
  // Both find no file at first; one of them has to lose at the link.
  const race = await Promise.allSettled([1, 2].map(() => createKeyFile(at('raced.vrk'), 'standard', PASSPHRASE)));
  expect(race.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
  const [winner] = race.flatMap((one) => (one.status === 'fulfilled' ? [one.value.keyId] : []));
  expect((await readPublicPart(at('raced.vrk'))).keyId).toBe(winner);
  await expect(createKeyFile(at('none/key.vrk'), 'standard', PASSPHRASE)).rejects.toMatchObject({
    code: 'FILE_UNREADABLE',
  });
  await expect(createKeyFile(at('empty.vrk'), 'standard', '')).rejects.toMatchObject({ code: 'OPTION_INVALID' });
  expect((await readdir(folder)).toSorted()).toEqual(['first.vrk', 'raced.vrk']);
});

test('what is no key file is named with what to do', async () => {
  await writeFile(at('noise.vrk'), 'not a key');
  await expect(readPublicPart(at('noise.vrk'))).rejects.toMatchObject({
    code: 'KEY_FILE_MALFORMED',
    where: expect.stringContaining('noise.vrk'),
  });
  await expect(readPublicPart(at('absent.vrk'))).rejects.toMatchObject({
    code: 'FILE_UNREADABLE',
    message: 'the key file does not exist',
  });
  await expect(revokeKey(service, at('absent.vrk'))).rejects.toMatchObject({ code: 'FILE_UNREADABLE' });
});

test('register, rotate and revoke need no passphrase of files that exist, and may be repeated', async () => {
  const { keyId } = await readPublicPart(at('first.vrk'));
  const registered = await registerKeyFile(service, at('first.vrk'), { days: 2 });
  expect(registered).toMatchObject({ keyId, standing: 'usable' });
  expect(Date.parse(registered.expiresAt ?? '') - Date.parse(registered.createdAt)).toBe(2 * 86_400_000);

  let asked = 0;
  const passphrase = async () => {
    asked++;
    return PASSPHRASE;
  };
  const files = { old: at('first.vrk'), next: at('second.vrk') };
  const first = await rotateKeyFile(service, files, { graceHours: 3, passphrase });
  expect(first).toMatchObject({ created: true, replaced: { keyId, replacedBy: first.key.keyId } });
  const again = await rotateKeyFile(service, files, { graceHours: 3, passphrase });
  expect(again).toMatchObject({ created: false, key: { keyId: first.key.keyId }, replaced: first.replaced });
  expect(asked).toBe(1);
  await expect(rotateKeyFile(service, { old: files.next, next: files.next }, { passphrase })).rejects.toMatchObject({
    code: 'USAGE',
  });

  expect(await revokeKey(service, keyId)).toMatchObject({ keyId, standing: 'revoked' });
  const ended = await revokeKey(service, files.next);
  expect((await revokeKey(service, files.next)).revokedAt).toBe(ended.revokedAt);
  expect(await listKeys(service)).toMatchObject([
    { keyId: first.key.keyId, standing: 'revoked' },
    { keyId, standing: 'revoked' },
  ]);
  await expect(registerKeyFile(service, at('first.vrk'))).rejects.toMatchObject({ serviceCode: 'KEY_REVOKED' });
});

test('a folder that may not be written to is named, and its files stay', async () => {
  // Root may write everywhere.
  if (process.getuid?.() === 0) return;
  await chmod(folder, 0o500);
  try {
    const refused = createKeyFile(at('later.vrk'), 'standard', PASSPHRASE);
    await expect(refused).rejects.toMatchObject({ code: 'FILE_UNREADABLE', where: at('later.vrk') });
  } finally {
    await chmod(folder, 0o700);
  }
});
