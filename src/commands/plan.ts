/** `veilrisk plan`: what a training would release and cost, before it runs, and whether this node would take part. */
import { type Command, Option } from 'commander';
import { RequestError } from '../errors.ts';
import type { NodeFlags, OpenNode } from '../operations/context.ts';
import { readContract } from '../operations/contracts.ts';
import { type NodeOpinion, nodeOpinion, readRosterFloors } from '../operations/planReview.ts';
import { type StatedRelease, type Statement, stateAdaSsp, statePlan, stateSgd } from '../operations/planStatement.ts';
import { planFor, readPlan } from '../operations/trainingPlans.ts';
import { trustFor } from '../operations/trustWishes.ts';
import { integerOption, numberOption } from './options.ts';
import { figure, figureOf, lossDown, lossUp, plainTable, wrapped } from './text.ts';
import { aggregatorModel, COLLUDERS, trustMode } from './trustOptions.ts';

const FAMILIES = ['scorecard', 'logistic', 'mlp', 'adassp'] as const;
const STRATEGIES = ['fedavg', 'fedprox', 'fedadam'] as const;

interface PlanFlags extends NodeFlags {
  contract?: string;
  plan?: string;
  family: (typeof FAMILIES)[number];
  strategy?: (typeof STRATEGIES)[number];
  localSteps?: number;
  epsilon: number;
  delta: number;
  mode?: 'site' | 'sum';
  aggregatorModel: 'lying' | 'watching';
  sites: number;
  roster?: string;
  quorum?: number;
  colluders?: number;
  dropouts?: number;
  rows: number;
  rounds?: number;
  holdout: number;
  evaluationShare: number;
  evaluation: boolean;
  releases?: boolean;
  json?: boolean;
}

export function registerPlan(program: Command, openNode: OpenNode): void {
  program
    .command('plan')
    .description(
      'state what a training releases and costs before it runs; with a node, whether that node would take part',
    )
    .option('--contract <file>', 'feature contract: a file, or the name of a published one')
    .option('--plan <file>', 'state this plan (`train propose --dry-run` prints one) instead of writing one')
    .addOption(new Option('--family <name>', 'what is trained').choices(FAMILIES).default('scorecard'))
    .addOption(new Option('--strategy <name>', 'logistic and mlp: trained between banks, and so').choices(STRATEGIES))
    .option('--local-steps <number>', "logistic and mlp between banks: a bank's steps in a round", integerOption)
    .option('--epsilon <number>', 'privacy loss of each bank over the whole plan', numberOption, 1)
    .option('--delta <number>', 'probability that the loss is larger', numberOption, 1e-6)
    .addOption(trustMode())
    .option('--sites <number>', 'banks of the consortium', integerOption, 5)
    .option('--roster <file>', 'take the number of banks and the least quorum from this roster')
    .option(
      '--quorum <number>',
      'banks a round needs (default: what the threshold asks, at least two thirds)',
      integerOption,
    )
    .option('--colluders <number>', COLLUDERS, integerOption)
    .option('--dropouts <number>', 'mode sum: banks that may be absent (default: all but the quorum)', integerOption)
    .addOption(aggregatorModel())
    .option('--rows <number>', 'rows of all banks together, a public estimate', integerOption, 40_000)
    .option('--rounds <number>', 'gradient rounds of a plan between banks', integerOption)
    .option('--holdout <share>', 'share of the customers that only evaluate the model', numberOption, 0.2)
    .option('--evaluation-share <share>', 'share of the loss (mu squared) the evaluation takes', numberOption, 0.2)
    .option('--no-evaluation', 'train on all customers and measure nothing')
    .option('--data-dir <dir>', 'a node: check its participation policy and the budget left; nothing is recorded')
    .option('--database-url <url>', 'PostgreSQL of that node (better: environment DATABASE_URL)')
    .option('--releases', 'a line for every release instead of one for equal rounds')
    .option('--json', 'print {plan, planHash, statement} with every release, with a node also {node}')
    .addHelpText(
      'after',
      `
A plan of logistic or mlp is one between banks with --strategy or a node; without, it is one training in one process, as
\`veilrisk evaluate\` does it.

Without --data-dir this only states. With it, a plan the node would refuse ends with exit code 1 and the code of the
refusal, such as BUDGET_EXHAUSTED or POLICY_EPSILON; the aggregator would get the same answer.

Examples:
  $ veilrisk plan --contract taiwan --epsilon 1 --sites 4
  $ veilrisk plan --contract taiwan --mode sum --sites 5 --colluders 1 --dropouts 1
  $ veilrisk plan --contract adult --family mlp --rows 26048 --sites 1
  $ veilrisk plan --contract adult --family mlp --rows 26048 --strategy fedadam
  $ veilrisk plan --plan plan.json --data-dir /var/lib/veilrisk/bank-a`,
    )
    .action(async (flags: PlanFlags) => {
      const roster = flags.roster === undefined ? null : await readRosterFloors(flags.roster);
      const contract = flags.contract === undefined ? null : (await readContract(flags.contract)).contract;
      const asksNode = flags.dataDir !== undefined || flags.databaseUrl !== undefined;
      let stated: Statement;
      let node: NodeOpinion | null = null;
      const isFederated = flags.family !== 'adassp' && (asksNode || flags.strategy !== undefined);
      if (flags.plan !== undefined || flags.family === 'scorecard' || isFederated) {
        const plan = flags.plan === undefined ? newPlan(flags, contract, roster) : await readPlan(flags.plan);
        stated = statePlan(plan, contract);
        if (asksNode) {
          const context = await openNode(flags);
          node = await nodeOpinion(context, roster, plan, contract).finally(() => context.close());
        }
      } else {
        if (asksNode) throw usage('a node takes part in scorecard, logistic and mlp plans only', '--family');
        stated = otherFamily(flags.family, flags, contract, roster);
      }
      process.stdout.write(
        flags.json
          ? `${JSON.stringify({ ...stated, ...(node && { node }) }, null, 2)}\n`
          : `${describe(stated, flags.releases === true)}\n${node === null ? '' : `\n${describeNode(node)}\n`}`,
      );
      if (node === null || node.accepted) return;
      process.stderr.write(`error ${node.code}: ${node.reason}\n`);
      process.exitCode = 1;
    });
}

type Contract = Awaited<ReturnType<typeof readContract>>['contract'];
type Floors = Awaited<ReturnType<typeof readRosterFloors>>;

const usage = (message: string, where: string) =>
  new RequestError('USAGE', message, { where, fix: 'see `veilrisk plan --help`' });

function needed(contract: Contract | null): Contract {
  if (contract === null) throw usage('a contract is needed, or a plan', '--contract');
  return contract;
}

function newPlan(flags: PlanFlags, contract: Contract | null, roster: Floors | null) {
  const { evaluation, holdout, evaluationShare: share, family } = flags;
  return planFor(roster ?? { sites: flags.sites, minimumQuorum: 1 }, {
    ...{ ...flags, family: family === 'adassp' ? 'scorecard' : family, contract: needed(contract) },
    ...{ expectedRows: flags.rows, aggregator: flags.aggregatorModel },
    evaluation: evaluation ? { holdout, share } : null,
  });
}

function otherFamily(
  family: 'logistic' | 'mlp' | 'adassp',
  flags: PlanFlags,
  contract: Contract | null,
  roster: Floors | null,
): Statement {
  const { epsilon, delta, rows } = flags;
  const floors = roster ?? { sites: flags.sites, minimumQuorum: 1 };
  const { mode, colluders, dropouts } = trustFor(floors, { ...flags, aggregator: flags.aggregatorModel });
  const wishes = {
    ...{ contract: needed(contract), epsilon, delta, mode, rows, colluders, dropouts },
    sites: floors.sites,
  };
  return family === 'adassp' ? stateAdaSsp(wishes) : stateSgd(family, wishes);
}

function describe({ plan, planHash, statement }: Statement, everyRelease: boolean): string {
  const { family, mode, sites, unit, neighbours, delta, sampling, losses, releases } = statement;
  const id = 'id' in plan ? `  ${plan.id}` : '';
  return [
    `plan       ${family}, trust mode ${mode}, ${sites} ${sites === 1 ? 'bank' : 'banks'}${id}`,
    `hash       ${planHash}`,
    `unit       ${unit}`,
    `neighbours ${neighbours}`,
    ...Object.values(losses).map(({ epsilon, mu, against }, i) =>
      wrapped(
        i === 0 ? 'loss       ' : '           ',
        `epsilon ${lossUp(epsilon)} at delta ${delta.toExponential()}` +
          `${mu === null ? '' : ` (mu ${mu.toPrecision(5)})`} against ${against}`,
      ),
    ),
    ...(sampling === null ? [] : [wrapped('sampling   ', describeSampling(sampling))]),
    wrapped(
      'noise      ',
      'each bank adds discrete Gaussian noise of sigma to every number of a release, in the integers it sends; ' +
        `sensitivity is how far one customer moves them together (L2). ${recordOf(family)}`,
    ),
    releaseTable(releases, everyRelease),
    'not promised:',
    ...statement.notPromised.map((line) => wrapped('  - ', line)),
  ].join('\n');
}

function describeSampling({ steps, record, customer }: NonNullable<Statement['statement']['sampling']>): string {
  return record === 1
    ? `Poisson with probability 1: every record is in each of the ${steps} steps`
    : `Poisson, ${steps} steps: a record is in a step with probability ${figure(record)}, a customer with ` +
        figure(customer);
}

/** What "in records" means in the table. */
function recordOf(family: string): string {
  return family === 'logistic' || family === 'mlp'
    ? 'In records: as multiples of the largest gradient of one record, the clipping norm; of an evaluation, in records.'
    : `In records: divided by what one record${family === 'scorecard' ? ', its residual at most 1,' : ''} adds to a number.`;
}

function releaseTable(releases: readonly StatedRelease[], everyRelease: boolean): string {
  const table = plainTable(
    ['\nrelease', 'in integers:\nsensitivity', '\nsigma', 'in records:\nsensitivity', '\nsigma', 'mu\neach'].concat([
      'epsilon\nso far',
      'against\nreaders',
    ]),
  );
  for (const group of everyRelease ? releases.map((release) => [release]) : runs(releases)) table.push(row(group));
  return table.toString();
}

/** Neighbouring releases of equal noise, sensitivity and loss, together. */
function runs(releases: readonly StatedRelease[]): StatedRelease[][] {
  const groups: StatedRelease[][] = [];
  for (const release of releases) {
    const last = groups.at(-1)?.[0];
    const isEqual =
      last !== undefined &&
      release.name.startsWith('round-') &&
      last.name.startsWith('round-') &&
      last.sigma === release.sigma &&
      last.sensitivity === release.sensitivity &&
      last.muSquared === release.muSquared &&
      last.readersMuSquared === release.readersMuSquared;
    if (isEqual) groups[groups.length - 1].push(release);
    else groups.push([release]);
  }
  return groups;
}

/** One line for releases that are equal but for the loss so far: that after the last of them. */
function row(group: readonly StatedRelease[]): string[] {
  const [{ name, times, sensitivity, sigma, recordUnit, muSquared }] = group;
  const last = group[group.length - 1];
  const noise = figureOf(sigma);
  return [
    group.length > 1 ? `${name} .. ${last.name.replace('round-', '')}` : times === 1 ? name : `${times} ${name}`,
    figure(sensitivity),
    figure(noise),
    figure(sensitivity / recordUnit),
    figure(noise / recordUnit),
    muSquared === null ? '-' : Math.sqrt(muSquared).toFixed(6),
    lossUp(last.epsilon),
    lossUp(last.readersEpsilon),
  ];
}

function describeNode({ node, dataset, accepted, code, reason, budget, share }: NodeOpinion): string {
  const lines = [wrapped(`node ${node}: `, accepted ? 'would take part' : `would refuse: ${code}: ${reason}`)];
  if (budget !== null && share !== null) {
    lines.push(
      wrapped(
        '  ',
        `data set ${dataset}: budget epsilon ${budget.epsilon} at delta ${budget.delta.toExponential()}, spent ` +
          `${lossUp(budget.spentEpsilon)}, left ${lossDown(budget.leftEpsilon)}; the plan takes ` +
          `${(100 * share).toFixed(2)} % of the budget (mu squared)`,
      ),
    );
  }
  return lines.join('\n');
}
