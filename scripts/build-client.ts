/**
 * Builds the SDK for browsers into dist/client/: one ES module, its source map, SEAL's WebAssembly and types.
 *
 *   npm run build:client [-- FOLDER]
 *
 * Source: src/client/client.ts and src/client/keyFile.ts, the same that Node runs; esbuild strips types and bundles.
 * Limit: `client.js` finds `seal_allows.wasm` beside itself, so both are served from one folder. The bundle imports
 * nothing; node-seal's `import("module")` stands behind a test for Node and never runs in a browser.
 */
import { execFile } from 'node:child_process';
import { copyFile, mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { basename, join, relative, resolve } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { build, type Metafile } from 'esbuild';

const ROOT = resolve(import.meta.dirname, '..');
const ENTRIES = ['client', 'keyFile'];
const WASM = join(ROOT, 'node_modules/node-seal/dist/seal_allows.wasm');

/** Zod probes for `new Function`, which a strict Content-Security-Policy reports as a violation; this keeps it from it. */
const BANNER = '(globalThis.__zod_globalConfig ??= {}).jitless = true;';

/** Writes `client.js`, `client.js.map` and `seal_allows.wasm`. @returns esbuild's account of what went into the bundle */
export async function buildClient(folder: string): Promise<Metafile> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const { metafile } = await build({
    stdin: {
      contents: ENTRIES.map((name) => `export * from './${name}.ts';`).join('\n'),
      resolveDir: join(ROOT, 'src/client'),
      sourcefile: 'browser.ts',
      loader: 'ts',
    },
    bundle: true,
    format: 'esm',
    platform: 'browser',
    target: ['es2022'],
    minify: true,
    sourcemap: true,
    legalComments: 'eof',
    banner: { js: BANNER },
    external: ['module'],
    outfile: join(folder, 'client.js'),
    absWorkingDir: ROOT,
    metafile: true,
    logLevel: 'error',
  });
  await copyFile(WASM, join(folder, 'seal_allows.wasm'));
  return metafile;
}

/**
 * Types beside the bundle; a project that reads them needs node-seal and zod. Compiled without Node's types, so that a
 * use of Buffer or process in the SDK fails here.
 */
async function writeTypes(folder: string): Promise<void> {
  const project = join(folder, 'tsconfig.json');
  const config = {
    extends: join(ROOT, 'tsconfig.json'),
    compilerOptions: {
      noEmit: false,
      declaration: true,
      emitDeclarationOnly: true,
      types: [],
      rootDir: join(ROOT, 'src'),
      outDir: join(folder, 'types'),
    },
    include: [],
    files: ENTRIES.map((name) => join(ROOT, `src/client/${name}.ts`)),
  };
  await writeFile(project, JSON.stringify(config));
  await promisify(execFile)(join(ROOT, 'node_modules/.bin/tsc'), ['-p', project]).catch((error: { stdout: string }) => {
    process.stderr.write(error.stdout);
    process.exit(1);
  });
  await rm(project);
  const lines = ENTRIES.map((name) => `export * from './types/client/${name}.ts';\n`);
  await writeFile(join(folder, 'client.d.ts'), lines.join(''));
}

/** Bytes of the bundle by package or room, largest first. */
function shares(metafile: Metafile): [string, number][] {
  const sums = new Map<string, number>();
  for (const output of Object.values(metafile.outputs)) {
    for (const [file, { bytesInOutput }] of Object.entries(output.inputs)) {
      const name = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1] ?? file.split('/').slice(0, 2).join('/');
      sums.set(name, (sums.get(name) ?? 0) + bytesInOutput);
    }
  }
  return [...sums].filter(([, bytes]) => bytes > 0).sort((a, b) => b[1] - a[1]);
}

if (import.meta.main) {
  const folder = resolve(process.argv[2] ?? join(ROOT, 'dist/client'));
  const metafile = await buildClient(folder);
  await writeTypes(folder);
  const line = (name: string, ...bytes: number[]) =>
    console.log(name.padEnd(24), ...bytes.map((count) => `${(count / 1024).toFixed(1)} KB`.padStart(12)));
  console.log(relative(process.cwd(), folder).padEnd(24), 'bytes'.padStart(12), 'gzip'.padStart(12));
  for (const name of ['client.js', 'seal_allows.wasm', 'client.js.map']) {
    const file = join(folder, name);
    line(basename(file), (await stat(file)).size, gzipSync(await readFile(file), { level: 9 }).length);
  }
  console.log('\nwhat client.js is made of');
  for (const [name, bytes] of shares(metafile)) line(name, bytes);
}
