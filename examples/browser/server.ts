/**
 * Serves the example page and the SDK's bundle, from memory, under a strict Content-Security-Policy.
 *
 *   npm run example:browser -- --node http://127.0.0.1:8080 [--port 5173] [--host 127.0.0.1]
 *
 * The page calls the node itself, so the node has to list the page's origin: VEILRISK_CORS_ORIGINS=http://127.0.0.1:5173.
 * Limit: plain HTTP for one machine. Browsers give WebCrypto to pages of loopback or of HTTPS only.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { build, type Plugin } from 'esbuild';
import { buildClient } from '../../scripts/build-client.ts';

/** The example imports the SDK's sources for their types; what the browser loads is the bundle that everybody gets. */
const sdkBundle: Plugin = {
  name: 'sdk-bundle',
  setup({ onResolve }) {
    onResolve({ filter: /\/src\/client\/(client|keyFile)\.ts$/ }, () => ({ path: './client.js', external: true }));
  },
};

const TYPES: Readonly<Record<string, string>> = {
  html: 'text/html; charset=utf-8',
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  map: 'application/json',
  svg: 'image/svg+xml',
  wasm: 'application/wasm',
};

/** Path -> bytes of everything this server answers with. */
async function collect(node: string): Promise<Map<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  const html = await readFile(join(import.meta.dirname, 'index.html'), 'utf8');
  files.set('/', Buffer.from(html.replace('%NODE%', node)));
  for (const name of ['style.css', 'icon.svg']) files.set(`/${name}`, await readFile(join(import.meta.dirname, name)));
  const folder = await mkdtemp(join(tmpdir(), 'veilrisk-example-'));
  try {
    await buildClient(folder);
    await build({
      entryPoints: ['page.ts', 'worker.ts'].map((name) => join(import.meta.dirname, name)),
      ...{ bundle: true, format: 'esm', platform: 'browser', target: ['es2022'], minify: true, outdir: folder },
      plugins: [sdkBundle],
      logLevel: 'error',
    });
    for (const name of ['client.js', 'client.js.map', 'seal_allows.wasm', 'page.js', 'worker.js']) {
      files.set(`/${name}`, await readFile(join(folder, name)));
    }
  } finally {
    await rm(folder, { recursive: true });
  }
  return files;
}

/** Scripts and styles from here only, WebAssembly but no eval, and no other address than the node's. */
function policy(node: string): string {
  return [
    "default-src 'none'",
    "script-src 'self' 'wasm-unsafe-eval'",
    "style-src 'self'",
    "img-src 'self'",
    `connect-src 'self' ${node}`,
    "worker-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
}

const { values } = parseArgs({
  options: {
    node: { type: 'string', default: 'http://127.0.0.1:8080' },
    port: { type: 'string', default: '5173' },
    host: { type: 'string', default: '127.0.0.1' },
  },
});
const node = new URL(values.node).origin;
const files = await collect(node);
const server = createServer((request, response) => {
  const path = (request.url ?? '/').split('?')[0];
  const bytes = request.method === 'GET' ? files.get(path) : undefined;
  response.setHeader('Content-Security-Policy', policy(node));
  response.setHeader('X-Content-Type-Options', 'nosniff');
  response.setHeader('Referrer-Policy', 'no-referrer');
  response.setHeader('Cache-Control', 'no-cache');
  if (bytes === undefined) {
    response.writeHead(404, { 'Content-Type': 'text/plain' }).end('not found\n');
    return;
  }
  const ending = path === '/' ? 'html' : path.slice(path.lastIndexOf('.') + 1);
  response.writeHead(200, { 'Content-Type': TYPES[ending], 'Content-Length': bytes.length }).end(bytes);
});
server.on('error', ({ message }) => {
  console.error(`${message}\nChoose another --host or --port, or stop what listens there.`);
  process.exitCode = 1;
});
server.listen(Number(values.port), values.host, () => {
  // Safe: a server that listens at a host and port has such an address.
  const { port } = server.address() as AddressInfo;
  const origin = `http://${values.host}:${port}`;
  console.log(`${origin}\nThe node at ${node} must list this origin: VEILRISK_CORS_ORIGINS=${origin}`);
});
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    server.close();
    server.closeAllConnections();
  });
}
