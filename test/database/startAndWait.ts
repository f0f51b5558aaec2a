/** Child of embeddedServer.test.ts: starts the server of the given data directory, says so, and waits to be killed. */
import { startEmbeddedPostgres } from '../../src/database/embeddedServer.ts';
import { openLog } from '../../src/log.ts';

await startEmbeddedPostgres({ dataDir: process.argv[2], log: openLog('child', 'silent') });
process.stdout.write('ready\n');
setInterval(() => {}, 1_000);
