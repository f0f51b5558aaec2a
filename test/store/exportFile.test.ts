import { appendFile, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { exportLog, verifyLogFile } from '../../src/operations/verifyLog.ts';
import { usePostgres } from '../support/postgres.ts';
import { entry, newSigner, type OpenedStore, openStore } from './node.ts';

const postgres = usePostgres();
let directory: string;
let node: OpenedStore;
let path: string;
let entries = 0;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veilrisk-export-'));
  node = await openStore(await postgres.freshDatabase());
  await node.store.transaction(async (tx) => {
    // Line separators of Unicode are part of an entry, not the end of a line; and one entry is almost as long as allowed.
    await tx.append({ ...entry(0), details: { text: 'a\u2028b\u2029c\u0085d\re' } });
    await tx.append({ ...entry(1), details: { text: 'x'.repeat(65_000) } });
    for (let i = 2; i < 3_000; i++) await tx.append(entry(i));
  });
  path = join(directory, 'bank-a.log');
  entries = await exportLog(node, path);
});
afterAll(async () => {
  await node.store.close();
  await rm(directory, { recursive: true, force: true });
});

const copy = async (change: (path: string) => Promise<void>) => {
  const changed = join(directory, 'changed.log');
  await writeFile(changed, await readFile(path));
  await change(changed);
  return verifyLogFile({ path: changed }).then(
    () => null,
    (error) => ({ code: error.code, where: error.where }),
  );
};

describe('exported file', () => {
  test('verifies with the pinned key, privately stored, and leaves no partial file', async () => {
    expect(entries).toBe(3_000);
    const { root } = await node.store.audit.head();
    expect(await verifyLogFile({ path, key: node.signer.verifierKey })).toEqual({
      ...{ origin: 'bank-a', size: 3_000, verified: 3_000, keyFrom: 'argument', consistentWith: null, witnessed: null },
      verifierKey: node.signer.verifierKey,
      root: Buffer.from(root).toString('hex'),
    });
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect((await readdir(directory)).filter((name) => name.includes('partial'))).toEqual([]);
    const { verifierKey } = await newSigner();
    await expect(verifyLogFile({ path, key: verifierKey })).rejects.toMatchObject({ code: 'AUDIT_SIGNATURE_INVALID' });
  });

  test('an older checkpoint from a file is checked', async () => {
    const checkpointPath = join(directory, 'older.checkpoint');
    await writeFile(checkpointPath, (await node.store.audit.head()).checkpoint);
    expect(await verifyLogFile({ path, checkpointPath })).toMatchObject({ consistentWith: 3_000 });
    // As kept: the first line of an export, with and without its newline, and a whole export.
    const older = await readFile(path, 'utf8');
    for (const kept of [older.split('\n', 1)[0], `${older.split('\n', 1)[0]}\n`, older]) {
      await writeFile(checkpointPath, kept);
      expect(await verifyLogFile({ path, checkpointPath })).toMatchObject({ consistentWith: 3_000 });
    }
    await writeFile(checkpointPath, '{"checkpoint":');
    await expect(verifyLogFile({ path, checkpointPath })).rejects.toMatchObject({
      code: 'AUDIT_FILE_MALFORMED',
      where: checkpointPath,
    });
    const missing = verifyLogFile({ path, checkpointPath: join(directory, 'none') });
    await expect(missing).rejects.toMatchObject({ code: 'AUDIT_FILE_MALFORMED', where: join(directory, 'none') });
  });

  test('a file that was cut, extended, or is no text is refused at the line', async () => {
    const { size } = await stat(path);
    expect(await copy((file) => truncate(file, size - 1))).toEqual({
      code: 'AUDIT_FILE_MALFORMED',
      where: 'line 3001',
    });
    expect(await copy((file) => appendFile(file, '\n'))).toEqual({ code: 'AUDIT_FILE_MALFORMED', where: 'line 3002' });
    expect(await copy((file) => appendFile(file, 'x'.repeat(1 << 20)))).toEqual({
      code: 'AUDIT_FILE_MALFORMED',
      where: 'line 3002',
    });
    expect(await copy((file) => writeFile(file, Buffer.from([0xff, 0x0a])))).toEqual({
      code: 'AUDIT_FILE_MALFORMED',
      where: 'line 1',
    });
    const lines = (await readFile(path, 'utf8')).split('\n');
    expect(await copy((file) => writeFile(file, lines.toSpliced(-2, 1).join('\n')))).toMatchObject({
      code: 'AUDIT_LOG_TAMPERED',
    });
    await expect(verifyLogFile({ path: directory })).rejects.toMatchObject({
      code: 'AUDIT_FILE_MALFORMED',
      where: directory,
    });
    await expect(exportLog(node, join(directory, 'none', 'x'))).rejects.toMatchObject({ code: 'AUDIT_FILE_MALFORMED' });
  });
});
