/** `veilrisk privacy-audit`: attacks the mechanisms of this installation and says whether they keep what they promise. */
import { SingleBar } from 'cli-progress';
import Table from 'cli-table3';
import { type Command, Option } from 'commander';
import { PrivacyError } from '../errors.ts';
import {
  type AuditOptions,
  type AuditReport,
  auditMechanisms,
  DEFAULTS,
  FAULTS,
  type Fault,
  MECHANISMS,
  type MechanismName,
} from '../operations/privacyAudit.ts';
import { integerOption, numberOption } from './options.ts';
import { wrapped } from './text.ts';

interface AuditFlags extends AuditOptions {
  mechanism: MechanismName | 'all';
  broken: Fault;
  selfTest?: true;
  json?: true;
}

export function registerPrivacyAudit(program: Command): void {
  program
    .command('privacy-audit')
    .description('attack the privacy mechanisms of this installation, and bound from below what they give away')
    .addOption(new Option('--mechanism <name>', 'what to attack').choices(['all', ...MECHANISMS]).default('all'))
    .addOption(
      new Option('--broken <fault>', 'put in a fault that the audit must find').choices(FAULTS).default('none'),
    )
    .option('--self-test', 'attack every mechanism sound and with each fault, and check the verdicts')
    .option('--epsilon <number>', 'loss that the audited plan promises', numberOption, DEFAULTS.epsilon)
    .option('--delta <number>', 'probability that the loss is larger', numberOption, DEFAULTS.delta)
    .option(
      '--trials <number>',
      'runs of each mechanism, half of them with the customer',
      integerOption,
      DEFAULTS.trials,
    )
    .option('--confidence <number>', 'of each verdict and its bounds', numberOption, DEFAULTS.confidence)
    .option('--json', 'print the reports as JSON')
    .addHelpText(
      'after',
      `
No data set is needed and nothing is spent: the mechanisms run on made-up records, with one customer (the canary) put in
or left out, and an attacker who knows everything else says which it was. The attacker's errors bound epsilon from below.

A lower bound above the promise proves a fault; exit code 1, PRIVACY_VIOLATED. A lower bound below it proves nothing
about other data, other customers or better attackers: the promise rests on the proofs in src/privacy/GUARANTEES.md.

Examples:
  $ veilrisk privacy-audit
  $ veilrisk privacy-audit --mechanism scorecard --epsilon 2 --trials 1000000 --confidence 0.99
  $ veilrisk privacy-audit --mechanism counts --broken noise
  $ veilrisk privacy-audit --self-test --json`,
    )
    .action(async (flags: AuditFlags) => {
      const names = flags.mechanism === 'all' ? MECHANISMS : [flags.mechanism];
      const faults = flags.selfTest ? FAULTS : [flags.broken];
      const wanted = names.flatMap((mechanism) => faults.map((broken) => ({ mechanism, broken })));
      const bar = new SingleBar({
        format: 'attacking  {bar}  {percentage} %  {what}',
        barsize: 30,
        hideCursor: true,
        stream: process.stderr,
      });
      bar.start(1, 0, { what: '' });
      let reports: AuditReport[];
      try {
        reports = await auditMechanisms(wanted, flags, (what, share) => bar.update(share, { what }));
      } finally {
        bar.stop();
      }
      if (flags.json) process.stdout.write(`${JSON.stringify(reports, null, 2)}\n`);
      else
        process.stdout.write(
          `${flags.selfTest ? tableOf(reports) : reports.map(textOf).join('\n')}\n${meaning(flags)}\n`,
        );
      requireVerdicts(reports, flags.selfTest ?? false);
    });
}

/** @throws PrivacyError PRIVACY_VIOLATED, AUDIT_INCONCLUSIVE. */
function requireVerdicts(reports: readonly AuditReport[], isSelfTest: boolean): void {
  const accused = reports.filter(
    ({ broken, contradicts }) => contradicts.length > 0 && (!isSelfTest || broken === 'none'),
  );
  if (accused.length > 0) {
    throw new PrivacyError('PRIVACY_VIOLATED', 'the attack proves a larger loss than is promised', {
      where: accused.map(nameOf).join('; '),
      fix: 'Do not release anything with this mechanism until the fault is found.',
    });
  }
  const missed = reports.filter(
    ({ broken, contradicts }) => isSelfTest && broken !== 'none' && contradicts.length === 0,
  );
  if (missed.length > 0) {
    throw new PrivacyError('AUDIT_INCONCLUSIVE', 'the audit did not find a fault that was put in', {
      where: missed.map(nameOf).join('; '),
      fix: 'Run more trials (--trials) or audit a larger epsilon: the errors of few trials hide small faults.',
    });
  }
}

function nameOf({ mechanism, broken }: AuditReport): string {
  return broken === 'none' ? mechanism : `${mechanism} with the fault ${broken}`;
}

function verdictOf({ contradicts }: AuditReport): string {
  return contradicts.length === 0 ? 'nothing found' : `VIOLATED (${contradicts.join(', ')})`;
}

function textOf(report: AuditReport): string {
  const { about, promised, booked } = report;
  return [
    `${nameOf(report)}: ${about.mechanism}`,
    ...(report.broken === 'none' ? [] : [`  fault     ${about.fault}`]),
    `  attacker  ${about.attacker}`,
    `  promised  epsilon ${figure(promised.epsilon)} at delta ${promised.delta.toExponential()}; ${promiseOf(report)}`,
    `  proved    epsilon >= ${figure(report.epsilonLowerBound)} at that delta (${errorsOf(report.epsilonAttack)})`,
    `            ${proofOf(report)} (${errorsOf(report.bookedAttack)})`,
    ...(booked.kind === 'mu'
      ? [`            hence epsilon >= ${figure(booked.epsilonIfGaussian)} if the mechanism is Gaussian`]
      : []),
    `  verdict   ${verdictOf(report)} after ${report.trials} trials, ${report.seconds.toFixed(1)} s`,
    '',
  ].join('\n');
}

function errorsOf({ errors }: AuditReport['epsilonAttack']): string {
  const { falsePositives, trialsWithout, falseNegatives, trialsWith } = errors;
  return `${falsePositives} of ${trialsWithout} false alarms, ${falseNegatives} of ${trialsWith} misses`;
}

function promiseOf({ booked }: AuditReport): string {
  const { promised } = booked;
  return booked.kind === 'mu'
    ? `mu ${figure(promised)}`
    : `delta ${figure(promised)} at epsilon ${figure(booked.epsilon)}`;
}

function proofOf({ booked }: AuditReport): string {
  const proved = figure(Math.max(0, booked.proved));
  return booked.kind === 'mu' ? `mu >= ${proved}` : `delta >= ${proved} at epsilon ${figure(booked.epsilon)}`;
}

function tableOf(reports: readonly AuditReport[]): string {
  const table = new Table({
    head: [
      'mechanism',
      'fault put in',
      'promised',
      'proved',
      'booked',
      'proved',
      'if Gaussian',
      'verdict',
      'as expected',
    ],
    colWidths: [null, 36, null, null, 16, 16],
    wordWrap: true,
    style: { head: [], border: [] },
  });
  for (const report of reports) {
    const { promised, booked, contradicts, broken } = report;
    table.push([
      report.mechanism,
      report.about.fault,
      `epsilon ${figure(promised.epsilon)}`,
      `>= ${figure(report.epsilonLowerBound)}`,
      promiseOf(report),
      `>= ${figure(Math.max(0, booked.proved))}`,
      booked.kind === 'mu' ? `epsilon >= ${figure(booked.epsilonIfGaussian)}` : '',
      contradicts.length === 0 ? 'nothing found' : `VIOLATED (${contradicts.join(', ')})`,
      contradicts.length > 0 === (broken !== 'none') ? 'yes' : 'NO',
    ]);
  }
  return table.toString();
}

function meaning({ confidence }: AuditOptions): string {
  return wrapped(
    '',
    `Each verdict accuses a sound mechanism with probability at most ${Number((1 - confidence).toPrecision(3)).toExponential()}. ` +
      'A lower bound is what this attack proved about this data and this customer; the true loss lies between it and the ' +
      'promise, if the promise holds. "Nothing found" is no proof of privacy; the proofs are in src/privacy/GUARANTEES.md.',
  );
}

function figure(value: number): string {
  return value.toPrecision(4);
}
