/** `veilrisk contract`: checks, shows and identifies feature contracts. Needs no node and no database. */
import Table from 'cli-table3';
import type { Command } from 'commander';
import { contractJsonSchema, describeFields, publishedContracts, readContract } from '../operations/contracts.ts';

export function registerContract(program: Command): void {
  const contract = program
    .command('contract')
    .description('check, show or identify a feature contract')
    .addHelpText(
      'after',
      `
Examples:
  $ veilrisk contract list
  $ veilrisk contract check my-contract.json
  $ veilrisk contract show demo-transactions

CONTRACT is a path, or the name of a contract published with this software.`,
    );

  contract
    .command('list')
    .description('the contracts published with this software, with their hashes')
    .addHelpText('after', '\nExample:\n  $ veilrisk contract list')
    .action(async () => {
      for (const name of await publishedContracts()) {
        const { contract, hash } = await readContract(name);
        print(`${hash}  ${name}${contract.synthetic ? '  (SYNTHETIC)' : ''}`);
      }
    });

  contract
    .command('check')
    .argument('<contract>', 'path or name')
    .description('say whether the contract is sound; every broken rule is printed')
    .addHelpText('after', '\nExample:\n  $ veilrisk contract check my-contract.json')
    .action(async (name: string) => {
      const { contract, hash } = await readContract(name);
      print(`ok: ${contract.name} version ${contract.version}, ${contract.fields.length} fields`);
      print(`hash ${hash}`);
    });

  contract
    .command('hash')
    .argument('<contract>', 'path or name')
    .description('print the SHA-256 of the canonical form, by which parties agree on a contract')
    .addHelpText('after', '\nExample:\n  $ veilrisk contract hash adult')
    .action(async (name: string) => print((await readContract(name)).hash));

  contract
    .command('show')
    .argument('<contract>', 'path or name')
    .option('--json', 'print the normalised document instead of a table')
    .description('print fields, bins and reason codes')
    .addHelpText('after', '\nExample:\n  $ veilrisk contract show demo-transactions')
    .action(async (name: string, options: { json?: boolean }) => {
      const { contract, hash } = await readContract(name);
      if (options.json) {
        print(JSON.stringify(contract, null, 2));
        return;
      }
      print(`${contract.title}${contract.synthetic ? '  (SYNTHETIC)' : ''}`);
      print(`${contract.name} version ${contract.version}, hash ${hash}`);
      print(
        `label ${contract.label.name}; customer key ${contract.subject ?? 'none: every record is its own customer'};`,
      );
      print(`at most ${contract.maxRecordsPerSubject} record(s) of a customer are trained on`);
      const table = new Table({
        head: ['field', 'kind', 'bins', 'outline', 'reason'],
        style: { head: [], border: [] },
        colWidths: [null, null, null, 56, null],
        wordWrap: true,
      });
      for (const { name, kind, bins, outline, code } of describeFields(contract)) {
        table.push([name, kind, bins, outline, code]);
      }
      print(table.toString());
    });

  contract
    .command('schema')
    .description('print the JSON Schema of contract documents')
    .addHelpText('after', '\nExample:\n  $ veilrisk contract schema > contract.schema.json')
    .action(() => print(JSON.stringify(contractJsonSchema(), null, 2)));
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
