/**
 * The SDK in a real browser: the example page in headless Chromium, driven as a user would, against a real node of
 * another origin. Everything the browser sends to the node passes through a recorder on the wire.
 *
 * Needs Debian's `chromium`; skips with a line when it is not there.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Browser, chromium, type Page } from 'playwright-core';
import { type RunningApi, serveApi } from '../../src/api/server.ts';
import { createClient } from '../../src/client/client.ts';
import { openKeyFile } from '../../src/client/keyFile.ts';
import { binRecord } from '../../src/contract/contract.ts';
import { logitOf, riskScore } from '../../src/learning/scorecard.ts';
import { openLog } from '../../src/log.ts';
import { createApiKey } from '../../src/operations/apiKeys.ts';
import { adoptModel } from '../../src/operations/models.ts';
import { decide } from '../../src/operations/policy.ts';
import { type EncryptionPool, openEncryptionPool } from '../../src/workers/encryptionPool.ts';
import { contract, openTestNode, type Record, simulated, type TestNode, trainedModel } from '../operations/node.ts';
import { usePostgres } from '../support/postgres.ts';
import { simulateTransactions } from '../support/simulated.ts';

const CHROMIUM = '/usr/bin/chromium';
const SERVER = resolve(import.meta.dirname, '../../examples/browser/server.ts');
const PASSPHRASE = 'correct horse battery staple';

const present = existsSync(CHROMIUM);
if (!present) process.stderr.write(`browser.test.ts is skipped: there is no ${CHROMIUM} (apt-get install chromium)\n`);
const withChromium = present ? describe : describe.skip;

const postgres = usePostgres();
const model = trainedModel();
const simulation = { seed: 31, bank: 'a', rows: 50, fraudRate: 0.05 } as const;
const { records } = simulated(simulation.rows, simulation.seed);
const exact = (record: Record) => riskScore(model, logitOf(model, binRecord(contract, record).bins));

/** Forwards bytes between a port of its own and the node's, and keeps what the browser sent. */
class Wire {
  readonly #sent: Buffer[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #server: Server;
  url = '';

  constructor(to: URL) {
    this.#server = createServer((browser) => {
      const node = connect(Number(to.port), to.hostname);
      for (const socket of [browser, node]) {
        this.#sockets.add(socket);
        socket.on('error', () => {}).on('close', () => this.#sockets.delete(socket));
      }
      browser.on('data', (bytes) => this.#sent.push(bytes));
      browser.pipe(node).pipe(browser);
    });
  }

  async open(): Promise<void> {
    this.url = `http://127.0.0.1:${await listen(this.#server)}`;
  }

  /** What was sent since the last call. */
  take(): Buffer {
    return Buffer.concat(this.#sent.splice(0));
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((closed) => this.#server.close(closed));
  }
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  // Safe: a server that listens at a host and port has such an address.
  return (server.address() as { port: number }).port;
}

/** A port nobody listens at, for a server that has to be named before it starts. */
async function freePort(): Promise<number> {
  const server = createServer();
  const port = await listen(server);
  await new Promise((closed) => server.close(closed));
  return port;
}

/**
 * The fields of a record that can be found in these bytes: by name, or by a value that is no accident, as text or as a
 * double. A text of 6 bytes is in a megabyte of noise with probability 4e-9.
 */
function traces(record: Record, bytes: Buffer): string[] {
  return Object.entries(record).flatMap(([name, value]) => {
    const forms = [Buffer.from(name), Buffer.from(String(value))].filter(({ length }) => length >= 6);
    if (typeof value === 'number' && !Number.isInteger(value)) {
      forms.push(Buffer.from(new Float64Array([value]).buffer));
    }
    return forms.some((form) => bytes.includes(form)) ? [name] : [];
  });
}

withChromium('the SDK in a browser', () => {
  let pool: EncryptionPool;
  let node: TestNode;
  let api: RunningApi;
  let wire: Wire;
  let example: ChildProcess;
  let browser: Browser;
  let page: Page;
  let apiKey: string;
  let home: string;
  let origin: string;
  let policy: string;
  const complaints: string[] = [];
  const addresses = new Set<string>();

  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'veilrisk-browser-'));
    pool = openEncryptionPool({ threads: 1, timeoutMs: 30_000, queueLimit: 8, log: openLog('test', 'silent') });
    node = await openTestNode(await postgres.freshDatabase(), pool);
    await adoptModel(node, { contract, model, actor: 'test' });
    const port = await freePort();
    origin = `http://127.0.0.1:${port}`;
    node.limits.origins = [origin];
    api = await serveApi(node, { host: '127.0.0.1', port: 0 });
    wire = new Wire(new URL(api.url));
    await wire.open();
    ({ key: apiKey } = await createApiKey(node, {
      name: 'page',
      scopes: ['score', 'keys', 'models'],
      actor: 'test',
    }));
    example = spawn(process.execPath, [SERVER, '--node', wire.url, '--port', String(port)], {
      env: { ...process.env, NODE_OPTIONS: '' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(example.stdout!, 'data');
    browser = await chromium.launch({
      executablePath: CHROMIUM,
      args: process.getuid?.() === 0 ? ['--no-sandbox'] : [],
    });
    page = await browser.newPage({ acceptDownloads: true });
    page.setDefaultTimeout(30_000);
    // Before the page's own scripts, so that no violation is missed.
    await page.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', ({ violatedDirective, sourceFile }) =>
        console.error(`violates ${violatedDirective} in ${sourceFile}`),
      );
    });
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
    });
    page.on('pageerror', (error) => complaints.push(error.message));
    page.context().on('request', (request) => addresses.add(new URL(request.url()).origin));
    const response = await page.goto(origin);
    policy = (await response?.headerValue('content-security-policy')) ?? '';
  });

  afterAll(async () => {
    await browser?.close();
    if (example !== undefined) {
      example.kill('SIGTERM');
      await once(example, 'close');
    }
    await wire?.close();
    await api?.close();
    await node?.close();
    await pool?.close();
    await rm(home, { recursive: true, force: true });
  });

  const status = (part: string, text: RegExp) => page.locator(`#${part}-status`).filter({ hasText: text }).waitFor();
  const text = async (selector: string) => (await page.locator(selector).textContent()) ?? '';

  async function fillIn(record: Record): Promise<void> {
    for (const [name, value] of Object.entries(record)) {
      const control = page.locator(`#field-${name}`);
      const given = value === null ? '' : String(value);
      if ((await control.evaluate((one) => one.tagName)) === 'SELECT') await control.selectOption(given);
      else await control.fill(given);
    }
  }

  async function choosePassphrase(passphrase: string): Promise<void> {
    await page.setInputFiles('#key-file', join(home, 'page.key'));
    await page.fill('#passphrase', passphrase);
    await page.click('#open-key button');
  }

  test('a wrong API key is refused in words, and the rest of the page stays closed', async () => {
    await page.fill('#api-key', `${apiKey.slice(0, -4)}0000`);
    await page.keyboard.press('Enter');
    await status('connect', /UNAUTHENTICATED/);
    expect(await page.locator('#key-part').evaluate((part) => (part as HTMLElement).inert)).toBe(true);
  });

  test('makes a key, keeps it in a file and registers it', async () => {
    await page.fill('#api-key', apiKey);
    await page.click('#connect button');
    await status('connect', /Connected/);
    expect(await text('#model')).toContain(contract.title);
    await page.fill('#new-passphrase', PASSPHRASE);
    await page.click('#new-key button');
    await status('key', /made in .*registered/);
    const [download] = await Promise.all([page.waitForEvent('download'), page.click('#download')]);
    await download.saveAs(join(home, 'page.key'));
    const registered = await createClient({ url: api.url, apiKey }).keys();
    expect(registered).toHaveLength(1);
    expect(await text('#key-status')).toContain(registered[0].keyId.slice(0, 16));
    // The file is the same for Node, and of the key in it the public half was sent and no byte of the secret one.
    const key = await openKeyFile(await readFile(join(home, 'page.key')), PASSPHRASE);
    expect(key.keyId).toBe(registered[0].keyId);
    const sent = wire.take();
    const windows = (bytes: Uint8Array) =>
      Array.from({ length: 300 }, (_, i) => Buffer.from(bytes.subarray(200 + 256 * i, 216 + 256 * i)));
    expect(windows(key.publicKey).every((window) => sent.includes(window))).toBe(true);
    expect(windows(key.exposeSealBytes()).some((window) => sent.includes(window))).toBe(false);
  });

  test('one transaction gets the exact model score, and no value of it crosses the wire', async () => {
    await fillIn(records[0]);
    wire.take();
    await page.click('#transaction button[type=submit]');
    await page.locator('#result').waitFor();
    const score = Number(await text('#score'));
    expect(Math.abs(score - exact(records[0]))).toBeLessThanOrEqual(1);
    if (score === exact(records[0])) expect(await text('#decision')).toBe(decide(node.policy, score));
    const sent = wire.take();
    expect(sent.length).toBeGreaterThan(65_000);
    expect(traces(records[0], sent)).toEqual([]);
    expect(await text('#frame .secret')).toMatch(/^([0-9a-f]{8} ?){48}$/);
    expect(sent.includes(Buffer.from((await text('#frame .secret')).replaceAll(' ', ''), 'hex'))).toBe(true);
    // The same search finds the same transaction where it is sent in the clear.
    await createClient({ url: wire.url, apiKey }).score(records[0]);
    expect(traces(records[0], wire.take()).length).toBeGreaterThan(3);
  });

  test('an invalid value is named at its field, and nothing is sent', async () => {
    wire.take();
    await page.fill('#field-amount', 'twelve');
    await page.click('#transaction button[type=submit]');
    await status('one', /RECORD_INVALID/);
    expect(await text('#field-amount-problem')).toMatch(/finite number/);
    expect(await page.getAttribute('#field-amount', 'aria-invalid')).toBe('true');
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('field-amount');
    expect(await text('#one-status')).not.toContain('twelve');
    expect(wire.take().length).toBe(0);
  });

  test('a file is scored row by row in order, and a wrong row is named', async () => {
    const lines = [...simulateTransactions(simulation)];
    const amount = lines[0].split(',').indexOf('amount');
    const wrong = lines[1].split(',').with(amount, 'twelve').join(',');
    const csv = lines.toSpliced(8, 0, wrong).join('\n');
    wire.take();
    await page.setInputFiles('#csv', { name: 'rows.csv', mimeType: 'text/csv', buffer: Buffer.from(csv) });
    await page.click('#table button[type=submit]');
    await status('table', /50 rows scored.*1 not valid/);
    const rows = await page.locator('#scores tr').allInnerTexts();
    const cells = rows.map((row) => row.split('\t'));
    expect(cells.map(([row]) => Number(row))).toEqual(Array.from({ length: 51 }, (_, i) => i + 1));
    expect(cells.splice(7, 1)).toEqual([['8', 'amount must be a finite number']]);
    for (const [i, record] of records.entries()) {
      expect(Math.abs(Number(cells[i][1]) - exact(record))).toBeLessThanOrEqual(1);
    }
    const sent = wire.take();
    expect(records.flatMap((record) => traces(record, sent))).toEqual([]);
  });

  test('a file that is being scored can be cancelled, and the page answers meanwhile', async () => {
    const csv = [...simulateTransactions({ ...simulation, rows: 8_000 })].join('\n');
    await page.setInputFiles('#csv', { name: 'rows.csv', mimeType: 'text/csv', buffer: Buffer.from(csv) });
    await page.click('#table button[type=submit]');
    await page.locator('#progress-label').filter({ hasText: 'of 8,000 rows' }).waitFor();
    await page.click('#cancel');
    await status('table', /Cancelled after/);
    const done = Number(/after ([\d,]+) rows/.exec(await text('#table-status'))?.[1].replaceAll(',', ''));
    expect(done).toBeGreaterThan(0);
    expect(done).toBeLessThan(8_000);
  });

  test('the key file opens with its passphrase only, and works again', async () => {
    await choosePassphrase('another passphrase');
    await status('key', /PASSPHRASE_WRONG/);
    await choosePassphrase(PASSPHRASE);
    await status('key', /opened in .*registered/);
    expect(await createClient({ url: api.url, apiKey }).keys()).toHaveLength(1);
    await fillIn(records[1]);
    await page.click('#transaction button[type=submit]');
    await page.locator('#result').waitFor();
    expect(Math.abs(Number(await text('#score')) - exact(records[1]))).toBeLessThanOrEqual(1);
  });

  test('every control has a label, every status is announced, and a narrow window needs no sideways scrolling', async () => {
    const unlabelled = await page.$$eval('input, select, progress', (controls) =>
      controls.filter((one) => !(one as HTMLInputElement).labels?.length).map(({ id }) => id),
    );
    expect(unlabelled).toEqual([]);
    expect(await page.getByRole('status').count()).toBe(4);
    await page.setViewportSize({ width: 400, height: 800 });
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(400);
    await page.setViewportSize({ width: 1280, height: 800 });
  });

  test('the bundle loads in a page of this policy too, without code generation', async () => {
    const keyId = await page.evaluate(async (path) => {
      const sdk = await import(path);
      return (await sdk.createKeys()).keyId;
    }, '/client.js');
    expect(keyId).toMatch(/^[0-9a-f]{64}$/);
  });

  test('no complaint of the browser, and no other address than the page and the node', () => {
    expect(policy).toMatch(/^default-src 'none'; script-src 'self' 'wasm-unsafe-eval';/);
    expect(policy).toContain(`connect-src 'self' ${wire.url};`);
    expect(policy).not.toMatch(/unsafe-(eval|inline)'(?<!wasm-unsafe-eval')|\*/);
    expect(complaints).toEqual([]);
    expect([...addresses].sort()).toEqual([origin, wire.url].sort());
  });

  test('a page whose origin the node does not list gets nothing, and does not even send its API key', async () => {
    const other = await browser.newPage();
    await other.goto(origin.replace('127.0.0.1', 'localhost'));
    wire.take();
    await other.fill('#api-key', apiKey);
    await other.click('#connect button');
    await other
      .locator('#connect-status')
      .filter({ hasText: /VEILRISK_CORS_ORIGINS.*SERVICE_UNREACHABLE/ })
      .waitFor();
    expect(wire.take().includes('Bearer')).toBe(false);
    await other.close();
  });
});
