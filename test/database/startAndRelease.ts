/** Child of embeddedServer.test.ts: starts and releases the server of the given data directory, then says so and ends. */
import { startEmbeddedPostgres } from '../../src/database/embeddedServer.ts';
import { openLog } from '../../src/log.ts';

const server = await startEmbeddedPostgres({ dataDir: process.argv[2], log: openLog('child', 'silent') });
await server.release();
process.stdout.write('released\n');
