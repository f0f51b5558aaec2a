/** One aggregator as a process of its own, to be killed: `node aggregatorProcess.ts DIRECTORY`, events on standard output. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startAggregator } from '../../federated/aggregator/server.ts';
import { IdentityKey } from '../../federated/protocol/identity.ts';
import { checkRoster } from '../../federated/protocol/roster.ts';
import { openLog } from '../../src/log.ts';

const directory = process.argv[2];
const { roster, tls, databaseUrl } = JSON.parse(await readFile(join(directory, 'config.json'), 'utf8'));
const aggregator = await startAggregator({
  ...{ roster: checkRoster(roster), tls, databaseUrl, port: 0, behindProxy: true },
  identity: await IdentityKey.load(join(directory, 'identity.pem')),
  log: openLog('aggregator', 'silent'),
  onEvent: (event) => process.stdout.write(`${JSON.stringify(event)}\n`),
});
process.stdout.write(`${JSON.stringify({ event: 'ready', url: aggregator.url })}\n`);
