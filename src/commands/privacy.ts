/** `veilrisk privacy`: what was spent of the privacy budget, and on what. */
import type { Command } from 'commander';
import type { NodeFlags, OpenNode } from '../operations/context.ts';
import { type Ledger, type LedgerLine, type PlanLine, readLedger } from '../operations/ledger.ts';
import { figure, figureOf, lossDown, lossUp, plainTable, wrapped } from './text.ts';

interface LedgerFlags extends NodeFlags {
  releases?: boolean;
  json?: boolean;
}

export function registerPrivacy(program: Command, openNode: OpenNode): void {
  const privacy = program.command('privacy').description("the node's privacy ledger");

  privacy
    .command('ledger')
    .description('budget, spent, refused and left of each data set, with a line for each plan')
    .option('--releases', 'a line for every release instead')
    .option('--data-dir <dir>', 'where `node init` put the keys')
    .option('--database-url <url>', 'PostgreSQL to use instead of the embedded one (better: environment DATABASE_URL)')
    .option('--json', 'print all of it as JSON: an array of `Ledger` of src/operations/ledger.ts')
    .addHelpText(
      'after',
      `
Spent is what was committed, what is reserved, and what was reserved by a process that died (lost): nothing is given
back. Losses are mu squared and add up; epsilons are at the delta of the budget and do not. "charged" is the loss
against whoever reads the bank's messages, in trust mode sum against the aggregator with the colluders the plan
tolerates; "readers" that against readers of the model alone.

Examples:
  $ veilrisk privacy ledger --data-dir /var/lib/veilrisk/bank-a
  $ veilrisk privacy ledger --data-dir /var/lib/veilrisk/bank-a --releases`,
    )
    .action(async ({ releases, json, ...node }: LedgerFlags) => {
      const context = await openNode(node);
      try {
        const ledgers = await readLedger(context);
        process.stdout.write(
          json
            ? `${JSON.stringify(ledgers, null, 2)}\n`
            : ledgers.length === 0
              ? 'no data set yet; see `veilrisk import --help`\n'
              : `${ledgers.map((ledger) => describe(ledger, releases === true)).join('\n\n')}\n`,
        );
      } finally {
        await context.close();
      }
    });
}

function describe(ledger: Ledger, everyRelease: boolean): string {
  const { budget } = ledger;
  const share = (muSquared: number) => `${((100 * muSquared) / budget.muSquared).toFixed(2)} %`;
  const spent = [
    `committed ${share(ledger.committedMuSquared)}`,
    `reserved ${share(ledger.reservedMuSquared)}`,
    `lost ${share(ledger.lostMuSquared)}`,
  ];
  const lines = [
    `data set ${ledger.dataset}  (contract ${ledger.contractHash.slice(0, 12)})`,
    `  budget   epsilon ${budget.epsilon} at delta ${budget.delta.toExponential()}`,
    `  spent    epsilon ${lossUp(ledger.spentEpsilon)}, ${share(ledger.spentMuSquared)} of mu squared: ${spent.join(', ')}`,
    `  left     epsilon ${lossDown(ledger.leftEpsilon)} for one further plan`,
    `  refused  ${refusals(ledger)}`,
  ];
  for (const { planId, code, reason } of ledger.refusedPlans)
    lines.push(wrapped('           ', `plan ${planId}: ${code}: ${reason}`));
  if (ledger.releases.length === 0) return `${lines.join('\n')}\n  nothing was released yet`;
  lines.push(everyRelease ? releaseTable(ledger.releases, share) : planTable(ledger.plans, share));
  return lines.join('\n');
}

function refusals({ refusals, refusedPlans }: Ledger): string {
  const count = (n: number, what: string) => `${n} ${what}${n === 1 ? '' : 's'}`;
  if (refusals + refusedPlans.length === 0) return 'nothing';
  const parts = refusals > 0 ? [`${count(refusals, 'release')} for want of budget`] : [];
  if (refusedPlans.length > 0) parts.push(count(refusedPlans.length, 'plan'));
  return parts.join(', ');
}

function planTable(plans: readonly PlanLine[], share: (muSquared: number) => string): string {
  const head = ['releases', 'charged', 'readers', 'of budget', 'sigma', 'first and last (UTC)'];
  const table = plainTable(head);
  for (const plan of plans) {
    const states = (['committed', 'reserved', 'lost', 'refused'] as const).filter((state) => plan[state] > 0);
    const refused = Object.entries(plan.refusedReleases).map(([name, times]) =>
      times > 1 ? `${name} x${times}` : name,
    );
    const told = [`plan ${plan.planId}`, plan.state, plan.mode && `mode ${plan.mode}`].filter(Boolean).join(', ');
    table.push([{ colSpan: head.length, content: told }]);
    table.push([
      [...states.map((state) => `${plan[state]} ${state}`), ...refused.map((name) => `  ${name}`)].join('\n'),
      lossUp(plan.epsilon),
      plan.readersEpsilon === null ? '-' : lossUp(plan.readersEpsilon),
      share(plan.muSquared),
      Object.entries(plan.sigma)
        .map(([kind, sigma]) => `${kind} ${figure(figureOf(sigma))}`)
        .join('\n'),
      `${time(plan.firstAt)}\n${time(plan.lastAt)}`,
    ]);
  }
  const note = wrapped(
    '',
    'charged, readers: epsilon at the delta of the budget, against whoever reads the messages of this bank (trust mode ' +
      'sum: the aggregator with the colluders the plan tolerates) and against readers of the model alone; sigma: noise ' +
      'this bank added, in the released integers',
  );
  return `${table.toString()}\n${note}`;
}

function releaseTable(releases: readonly LedgerLine[], share: (muSquared: number) => string): string {
  const head = ['release', 'try', 'state', 'mu', 'readers\nmu', 'of\nbudget', 'sens.', 'sigma', 'when (UTC)'];
  const table = plainTable(head, 3);
  let last = '';
  for (const line of releases) {
    if (line.planId !== last) table.push([{ colSpan: head.length, content: `plan ${line.planId}` }]);
    last = line.planId;
    table.push([
      line.release,
      line.attempt,
      line.state,
      Math.sqrt(line.muSquared).toFixed(6),
      line.readersMuSquared === null ? '-' : Math.sqrt(line.readersMuSquared).toFixed(6),
      line.state === 'refused' ? '-' : share(line.muSquared),
      line.sensitivitySquared === null ? '-' : figure(Math.sqrt(line.sensitivitySquared)),
      line.sigma === null ? '-' : figure(figureOf(line.sigma)),
      time(line.reservedAt),
    ]);
  }
  const note = 'mu: loss as charged; sens.: L2 sensitivity to one customer, like sigma in the released integers';
  return `${table.toString()}\n${note}`;
}

const time = (rfc3339: string) => rfc3339.slice(0, 19).replace('T', ' ');
