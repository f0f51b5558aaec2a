/** `npm run build:client` as a partner runs it: what its files import, weigh and declare, and that they work. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from '@jest/globals';

const ROOT = resolve(import.meta.dirname, '../..');
const run = promisify(execFile);

let home: string;
let folder: string;
let code: string;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'veilrisk-bundle-'));
  folder = join(home, 'client');
  const env = { ...process.env, NODE_OPTIONS: '' };
  const { stdout } = await run(process.execPath, [join(ROOT, 'scripts/build-client.ts'), folder], { env });
  expect(stdout).toMatch(/client\.js +[\d.]+ KB +[\d.]+ KB/);
  code = await readFile(join(folder, 'client.js'), 'utf8');
  // The declarations name node-seal and zod.
  await symlink(join(ROOT, 'node_modules'), join(home, 'node_modules'));
  await writeFile(join(home, 'package.json'), '{ "type": "module" }');
});
afterAll(() => rm(home, { recursive: true, force: true }));

test('imports nothing but what stands behind node-seal’s test for Node', () => {
  const imports = [...code.matchAll(/\bimport\s*\(\s*["']([^"']+)["']|(?:^|[;}\s])import\b[^("';]*["']([^"']+)["']/g)];
  expect(imports.map(([, dynamic, fixed]) => dynamic ?? fixed)).toEqual(['module']);
  expect(code).not.toMatch(/node:[a-z]/);
});

test('a browser loads at most 80 KB of script and 450 KB of SEAL, compressed', async () => {
  expect(gzipSync(code).length).toBeLessThan(80 * 1024);
  expect(gzipSync(await readFile(join(folder, 'seal_allows.wasm'))).length).toBeLessThan(450 * 1024);
});

test('its declarations serve a strict project without Node’s types, and catch a mistake', async () => {
  const use = (type: string) => `
    import { createClient, createKeys, type EncryptedScore, openKeyFile, sealKeyFile } from './client/client.js';
    const secretKey = await openKeyFile(await sealKeyFile(await createKeys(), 'a long passphrase'), 'a long passphrase');
    const client = createClient({ url: 'https://node.example', apiKey: 'x', secretKey });
    export const scores: ${type} = await client.scoreEncrypted([{ amount: 1 }]);`;
  const compile = async (name: string, type: string) => {
    await writeFile(join(home, `${name}.ts`), use(type));
    const options = {
      compilerOptions: {
        ...{ strict: true, noEmit: true, skipLibCheck: true, types: [], allowImportingTsExtensions: true },
        ...{ module: 'nodenext', target: 'es2024', lib: ['es2024', 'dom', 'esnext.disposable'] },
      },
      files: [`${name}.ts`],
    };
    await writeFile(join(home, `${name}.json`), JSON.stringify(options));
    return run(join(ROOT, 'node_modules/.bin/tsc'), ['-p', join(home, `${name}.json`)]).then(
      () => '',
      (error: { stdout: string }) => error.stdout,
    );
  };
  expect(await compile('right', 'EncryptedScore[]')).toBe('');
  expect(await compile('wrong', 'string[]')).toContain('TS2322');
});

test('the same file runs in Node', async () => {
  const script = `import { createKeys, publicPart, sealKeyFile } from './client/client.js';
    const key = await createKeys();
    const file = await sealKeyFile(key, 'correct horse battery');
    console.log(publicPart(file).keyId === key.keyId, key.keyId.length, String(key));`;
  await writeFile(join(home, 'use.js'), script);
  const { stdout } = await run(process.execPath, ['use.js'], { cwd: home, env: { ...process.env, NODE_OPTIONS: '' } });
  expect(stdout).toMatch(/^true 64 SecretKey\(\d+ bytes\)\n$/);
});
