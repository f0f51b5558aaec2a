/**
 * A whole consortium on one machine: an aggregator and some bank nodes, each its own process with its own keys and its
 * own database, joined by a roster of their public keys. Only what a real consortium would exchange passes between
 * them: public keys, the roster, and the protocol.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Part, Supervisor } from './supervisor.ts';

const START_TIMEOUT_MS = 60_000;

export interface BankSpec {
  /** Site id: a-z, 0-9 and "-". */
  name: string;
  /** Training rows (CSV). */
  trainingFile: string;
}

export interface Bank extends BankSpec {
  dataDir: string;
  url: string;
  part: Part;
}

export interface Consortium {
  workspace: string;
  rosterFile: string;
  operatorKeyFile: string;
  aggregatorUrl: string;
  aggregator: Part;
  banks: Bank[];
  restartAggregator(): Promise<Part>;
  restartBank(bank: Bank): Promise<Part>;
}

export interface ConsortiumOptions {
  supervisor: Supervisor;
  /** A directory the database user can enter. */
  workspace: string;
  contractFile: string;
  banks: readonly BankSpec[];
  /** What every bank allows in total, over all plans. */
  budget: { epsilon: number; delta: number };
  minimumQuorum: number;
  /** Called as soon as a bank's rows are in its database. */
  onImported?: (bank: string, summary: ImportSummary) => void;
}

export interface ImportSummary {
  read: number;
  accepted: number;
  rejected: number;
}

/** Initialises, imports and starts everything; resolves when every part answers. */
export async function startConsortium(options: ConsortiumOptions): Promise<Consortium> {
  const { supervisor, workspace } = options;
  const aggregatorDir = join(workspace, 'aggregator');
  const rosterFile = join(workspace, 'roster.json');
  await mkdir(workspace, { recursive: true });

  await provision(options, aggregatorDir, rosterFile);
  const operatorKeyFile = join(workspace, 'ca', 'operator.pem');

  let aggregatorPort = 0;
  const startAggregator = async (): Promise<Part> => {
    const part = supervisor.start('aggregator', [
      ...['aggregator', 'start', '--data-dir', aggregatorDir],
      ...['--port', String(aggregatorPort), '--progress-json'],
    ]);
    supervisor.watchDatabase(join(aggregatorDir, 'postgres'));
    const ready = await part.waitFor(({ event }) => event === 'ready', START_TIMEOUT_MS);
    // A restarted aggregator has to answer where its sites look for it.
    aggregatorPort = Number(new URL(String(ready.url)).port);
    return part;
  };
  const aggregator = await startAggregator();
  const aggregatorUrl = `https://localhost:${aggregatorPort}`;

  const startBank = async (name: string): Promise<{ part: Part; url: string }> => {
    const dataDir = join(workspace, name);
    const part = supervisor.start(name, [
      ...['node', 'start', '--data-dir', dataDir, '--port', '0', '--progress-json'],
      ...['--aggregator', aggregatorUrl],
    ]);
    supervisor.watchDatabase(join(dataDir, 'postgres'));
    const ready = await part.waitFor(({ event }) => event === 'ready', START_TIMEOUT_MS);
    return { part, url: String(ready.url) };
  };
  const banks = await Promise.all(
    options.banks.map(async (spec): Promise<Bank> => {
      const dataDir = join(workspace, spec.name);
      supervisor.watchDatabase(join(dataDir, 'postgres'));
      const output = await supervisor.run(`${spec.name}-import`, [
        ...['import', '--data-dir', dataDir, '--contract', options.contractFile, '--data', spec.trainingFile, '--json'],
      ]);
      // Safe: the output of `import --json`.
      options.onImported?.(spec.name, JSON.parse(output) as ImportSummary);
      return { ...spec, dataDir, ...(await startBank(spec.name)) };
    }),
  );

  const consortium: Consortium = {
    workspace,
    rosterFile,
    operatorKeyFile,
    aggregatorUrl,
    aggregator,
    banks,
    async restartAggregator() {
      consortium.aggregator = await startAggregator();
      return consortium.aggregator;
    },
    async restartBank(bank) {
      Object.assign(bank, await startBank(bank.name));
      return bank.part;
    },
  };
  return consortium;
}

/**
 * Authority, keys and roster, as people would exchange them: requests go to the operator, his roster comes back, and every
 * member compares his fingerprint, which here comes straight from him.
 */
async function provision(options: ConsortiumOptions, aggregatorDir: string, rosterFile: string): Promise<void> {
  const { supervisor, workspace, banks, budget } = options;
  const caDir = join(workspace, 'ca');
  const request = (name: string) => join(workspace, `${name}.request.json`);
  const [operator] = await Promise.all([
    supervisor.run('provision-init', [
      ...['provision', 'init', '--ca-dir', caDir, '--consortium', 'demo consortium', '--json'],
      ...['--minimum-quorum', String(options.minimumQuorum)],
    ]),
    supervisor.run('aggregator-request', [
      ...['provision', 'site', '--aggregator', '--data-dir', aggregatorDir, '--out', request('aggregator')],
    ]),
    ...banks.map(async ({ name }) => {
      const dataDir = join(workspace, name);
      await supervisor.run(`${name}-init`, [
        ...['node', 'init', '--data-dir', dataDir, '--name', name],
        ...['--budget-epsilon', String(budget.epsilon), '--budget-delta', String(budget.delta)],
      ]);
      await supervisor.run(`${name}-request`, ['provision', 'site', '--data-dir', dataDir, '--out', request(name)]);
    }),
  ]);
  await supervisor.run('provision-sign', [
    ...['provision', 'sign', '--ca-dir', caDir, '--out', rosterFile],
    ...['aggregator', ...banks.map(({ name }) => name)].map(request),
  ]);
  // Safe: the output of `provision init --json`.
  const { fingerprint } = JSON.parse(operator) as { fingerprint: string };
  const members = {
    aggregator: aggregatorDir,
    ...Object.fromEntries(banks.map(({ name }) => [name, join(workspace, name)])),
  };
  await Promise.all(
    Object.entries(members).map(([name, dataDir]) =>
      supervisor.run(`${name}-join`, [
        ...['provision', 'join', '--data-dir', dataDir, '--roster', rosterFile],
        ...['--operator-fingerprint', fingerprint],
      ]),
    ),
  );
}
