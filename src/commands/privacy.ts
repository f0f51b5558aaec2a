/** `veilrisk privacy`: what was spent of the privacy budget, and on what. */
import Table from 'cli-table3';
import type { Command } from 'commander';
import type { NodeFlags, OpenNode } from '../operations/context.ts';
import { type Ledger, type LedgerLine, type PlanLine, readLedger } from '../operations/ledger.ts';

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
back. Losses are mu squared and add up; epsilons are at the delta of the budget and do not. "aggregator" is the loss
against whoever reads the bank's messages, which is charged; "readers" that against readers of the model alone.

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
    `  spent    epsilon ${up(ledger.spentEpsilon)}, ${share(ledger.spentMuSquared)} of mu squared: ${spent.join(', ')}`,
    `  left     epsilon ${down(ledger.leftEpsilon)} for one further plan`,
    `  refused  ${refusals(ledger)}`,
  ];
  for (const { planId, code, reason } of ledger.refusedPlans)
    lines.push(`           plan ${planId}: ${code}: ${reason}`);
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
  const table = new Table({
    head: ['plan', 'releases', 'aggregator', 'readers', 'of budget', 'sigma', 'when (UTC)'],
    colAligns: ['left', 'left', 'right', 'right', 'right', 'left', 'left'],
    style: { head: [], border: [], compact: true },
  });
  for (const plan of plans) {
    const states = (['committed', 'reserved', 'lost', 'refused'] as const).filter((state) => plan[state] > 0);
    const refused = Object.entries(plan.refusedReleases).map(([name, times]) =>
      times > 1 ? `${name} x${times}` : name,
    );
    table.push([
      `${plan.planId}\n${[plan.state, plan.mode && `mode ${plan.mode}`].filter(Boolean).join(', ')}`,
      [...states.map((state) => `${plan[state]} ${state}`), ...refused.map((name) => `  ${name}`)].join('\n'),
      up(plan.epsilon),
      plan.readersEpsilon === null ? '' : up(plan.readersEpsilon),
      share(plan.muSquared),
      Object.entries(plan.sigma)
        .map(([kind, sigma]) => `${kind} ${figure(sigma)}`)
        .join('\n'),
      `${time(plan.firstAt)}\n${time(plan.lastAt)}`,
    ]);
  }
  return `${table.toString()}\naggregator, readers: epsilon at the delta of the budget; sigma: noise of this bank in the released integers`;
}

function releaseTable(releases: readonly LedgerLine[], share: (muSquared: number) => string): string {
  const table = new Table({
    head: ['plan', 'release', 'try', 'state', 'mu', 'mu readers', 'of budget', 'sensitivity', 'sigma', 'when (UTC)'],
    colAligns: ['left', 'left', 'right', 'left', 'right', 'right', 'right', 'right', 'right', 'left'],
    style: { head: [], border: [], compact: true },
  });
  let last = '';
  for (const line of releases) {
    table.push([
      line.planId === last ? '' : line.planId,
      line.release,
      line.attempt,
      line.state,
      Math.sqrt(line.muSquared).toFixed(6),
      line.readersMuSquared === null ? '' : Math.sqrt(line.readersMuSquared).toFixed(6),
      line.state === 'refused' ? '' : share(line.muSquared),
      line.sensitivitySquared === null ? '' : Number(Math.sqrt(line.sensitivitySquared).toPrecision(6)),
      line.sigma === null ? '' : figure(line.sigma),
      time(line.reservedAt),
    ]);
    last = line.planId;
  }
  return table.toString();
}

const up = (epsilon: number) => (Math.ceil(epsilon * 1e4) / 1e4).toFixed(4);
const down = (epsilon: number) => (Math.floor(epsilon * 1e4) / 1e4).toFixed(4);
const time = (rfc3339: string) => rfc3339.slice(0, 19).replace('T', ' ');

/** `numerator/denominator` as a figure for people. */
function figure(rational: string): string {
  const [num, den] = rational.split('/').map(Number);
  return String(Number((num / den).toPrecision(6)));
}
