/** A process of its own that imports a file, for the test that kills it: argv = database URL, CSV file. */
import { readContract } from '../../src/operations/contracts.ts';
import { importRecords } from '../../src/operations/importRecords.ts';
import { openTestNode } from './node.ts';

const [url, path] = process.argv.slice(2);
const node = await openTestNode(url);
let told = false;
await importRecords(node, {
  contractFile: await readContract('demo-transactions'),
  path,
  onProgress: (bytes) => {
    // Far enough for records to be on their way to the server.
    if (bytes < 3_000_000 || told) return;
    told = true;
    process.stdout.write('half\n');
  },
});
process.stdout.write('done\n');
await node.close();
