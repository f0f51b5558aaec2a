/** `veilrisk provision`: found a consortium, enrol its members, take them out, renew their keys. */
import Table from 'cli-table3';
import { type Command, InvalidArgumentError } from 'commander';
import type { Settings } from '../config.ts';
import {
  provisionInit,
  provisionJoin,
  provisionRoster,
  provisionSite,
  type RosterSummary,
} from '../operations/provision.ts';
import { integerOption } from './options.ts';

export function registerProvision(program: Command, settings: Settings): void {
  const provision = program
    .command('provision')
    .description('certificates and roster of a consortium: who may take part, with keys that never leave their owners');

  provision
    .command('init')
    .description("operator: make the consortium's authority and the operator's keys")
    .requiredOption('--ca-dir <dir>', 'a new directory; keep it off line and backed up')
    .requiredOption('--consortium <name>', 'name of the consortium')
    .requiredOption('--minimum-quorum <count>', 'no plan may have fewer banks in a round', countOption)
    .option('--maximum-colluders <count>', 'banks that may work with the aggregator, as agreed', integerOption)
    .option('--url <url>', 'where the banks reach the aggregator, https')
    .option('--json', 'print {operatorKeyFile, fingerprint} as JSON')
    .addHelpText(
      'after',
      `
Example:
  $ veilrisk provision init --ca-dir ca --consortium "Four banks" --minimum-quorum 3 --url https://agg.example.org:7443`,
    )
    .action(async ({ caDir, json, ...terms }) => {
      const made = await provisionInit(caDir, terms);
      process.stdout.write(
        json
          ? `${JSON.stringify(made)}\n`
          : `operator key ${made.operatorKeyFile}\noperator fingerprint, to be read out to every member:\n  ${made.fingerprint}\n`,
      );
    });

  provision
    .command('site')
    .description('bank or aggregator: make TLS keys and a request for the operator; the keys stay here')
    .option(
      '--data-dir <dir>',
      'where the keys live; a node is made there if there is none',
      settings.VEILRISK_DATA_DIR,
    )
    .requiredOption('--out <file>', 'request to write; it holds no secret')
    .option('--name <name>', 'site id, for a new node: a-z, 0-9 and "-"')
    .option('--aggregator', "this is the aggregator's data directory")
    .option('--host <name...>', 'with --aggregator: DNS names and addresses the banks dial', ['localhost', '127.0.0.1'])
    .option('--url <url>', 'with --aggregator: where the banks reach it, https')
    .option('--rotate', 'new TLS keys beside the ones in use, which they replace with the next roster')
    .option('--json', 'print {name, fingerprint, out} as JSON')
    .addHelpText(
      'after',
      `
Send the request to the operator, and tell him the fingerprint by another way. Use \`node init\` first for a budget of
your own.

Examples:
  $ veilrisk provision site --data-dir bank-a --name bank-a --out bank-a.request.json
  $ veilrisk provision site --data-dir agg --aggregator --host agg.example.org --out aggregator.request.json
  $ veilrisk provision site --data-dir bank-a --rotate --out bank-a.request.json`,
    )
    .action(async ({ json, ...options }) => {
      const made = await provisionSite(options);
      process.stdout.write(
        json
          ? `${JSON.stringify(made)}\n`
          : `request of ${made.name} in ${made.out}\nfingerprint ${made.fingerprint}\n`,
      );
    });

  operator(provision.command('sign'))
    .description('operator: check requests, issue certificates, and write the next roster')
    .argument('[request...]', 'request files; without any the newest roster is written again')
    .option('--url <url>', 'where the banks reach the aggregator from now on, https')
    .addHelpText(
      'after',
      `
Compare each member's fingerprint with what it reads out before the roster is handed out.

Example:
  $ veilrisk provision sign --ca-dir ca --out roster.json aggregator.request.json bank-*.request.json`,
    )
    .action(async (sign: string[], { caDir, out, minimumQuorum, url, json }) =>
      show(await provisionRoster(caDir, out, { sign, minimumQuorum, url }), out, json),
    );

  provision
    .command('join')
    .description("bank or aggregator: accept a roster; the first time, compare the operator's fingerprint")
    .option('--data-dir <dir>', 'where the keys live', settings.VEILRISK_DATA_DIR)
    .requiredOption('--roster <file>', "the operator's newest roster")
    .option('--operator-fingerprint <hex>', 'what the operator read out; anything else is refused')
    .option('--yes-i-compared', 'a person has compared the fingerprint')
    .option('--json', 'print the summary as JSON')
    .addHelpText(
      'after',
      `
Later rosters need no comparison: they must be newer and of the same operator. A running node or aggregator takes them up
by itself.

Example:
  $ veilrisk provision join --data-dir bank-a --roster roster.json --operator-fingerprint "1a2b 3c4d ..."`,
    )
    .action(async ({ dataDir, roster, operatorFingerprint, yesICompared: compared, json }) => {
      const summary = await provisionJoin(dataDir, roster, { operatorFingerprint, compared });
      show(summary, roster, json);
      if (!json) process.stdout.write(`joined: version ${summary.version} is in force in ${dataDir}\n`);
    });

  operator(provision.command('revoke'))
    .description('operator: take a bank out; the aggregator cuts it off when it has the new roster')
    .requiredOption('--site <name>', 'site id')
    .addHelpText(
      'after',
      `
Example:
  $ veilrisk provision revoke --ca-dir ca --site bank-b --out roster.json`,
    )
    .action(async ({ caDir, out, site: revoke, minimumQuorum, json }) =>
      show(await provisionRoster(caDir, out, { revoke, minimumQuorum }), out, json),
    );

  operator(provision.command('rotate'))
    .description("operator: replace a member's certificate by one for its new keys")
    .argument('[request]', 'request made with `provision site --rotate`')
    .option('--new-identity', 'the member has a new data directory, and its new fingerprint was compared')
    .option('--operator', "renew the operator's own certificate")
    .addHelpText(
      'after',
      `
Certificates are valid for 395 days. Plans under way end with ROSTER_INVALID when the aggregator takes a new roster up.

Examples:
  $ veilrisk provision rotate --ca-dir ca --out roster.json bank-a.request.json
  $ veilrisk provision rotate --ca-dir ca --out roster.json --operator`,
    )
    .action(async (rotate: string | undefined, { caDir, out, minimumQuorum, newIdentity, operator, json }, command) => {
      if (rotate === undefined && !operator) command.error("error: missing required argument 'request', or --operator");
      const change = { minimumQuorum, newIdentity, renewOperator: operator ?? false };
      show(await provisionRoster(caDir, out, { ...change, ...(rotate === undefined ? {} : { rotate }) }), out, json);
    });
}

/** Options of the verbs that write a roster. */
function operator(command: Command): Command {
  return command
    .requiredOption('--ca-dir <dir>', 'what `provision init` made')
    .requiredOption('--out <file>', 'roster to write; only an older one of this operator is replaced')
    .option('--minimum-quorum <count>', 'another least quorum from now on', countOption)
    .option('--json', 'print the summary as JSON');
}

function show(summary: RosterSummary, file: string, json: boolean | undefined): void {
  if (json) {
    process.stdout.write(`${JSON.stringify(summary)}\n`);
    return;
  }
  const { consortium, version, minimumQuorum, members, revoked } = summary;
  const table = new Table({
    head: ['member', 'fingerprint of the identity key', 'days left'],
    style: { head: [], border: [] },
  });
  for (const { name, fingerprint, daysLeft } of members) table.push([name, halves(fingerprint), daysLeft]);
  process.stdout.write(
    `roster ${version} of ${consortium}: ${members.length - 2} sites, quorum at least ${minimumQuorum}, ` +
      `${revoked} certificates revoked\n${table.toString()}\nauthority ${summary.authority}\nroster in ${file}\n`,
  );
}

/** Two lines, so that the table fits a terminal. */
function halves(fingerprint: string): string {
  return `${fingerprint.slice(0, 39)}\n${fingerprint.slice(40)}`;
}

function countOption(text: string): number {
  const value = integerOption(text);
  if (value < 1) throw new InvalidArgumentError('It must be a whole number of at least 1.');
  return value;
}
