/** `veilrisk plan`: what a training would release and cost, before it runs, and whether this node would take part. */
import Table from 'cli-table3';
import { type Command, Option } from 'commander';
import { RequestError } from '../errors.ts';
import type { NodeFlags, OpenNode } from '../operations/context.ts';
import { readContract } from '../operations/contracts.ts';
import { type NodeOpinion, nodeOpinion, readRosterFloors } from '../operations/planReview.ts';
import {
  figureOf,
  type StatedRelease,
  type Statement,
  stateAdaSsp,
  statePlan,
  stateSgd,
} from '../operations/planStatement.ts';
import { planFor, readPlan } from '../operations/trainingPlans.ts';
import { integerOption, numberOption } from './options.ts';

const FAMILIES = ['scorecard', 'logistic', 'mlp', 'adassp'] as const;

interface PlanFlags extends NodeFlags {
  contract?: string;
  plan?: string;
  family: (typeof FAMILIES)[number];
  epsilon: number;
  delta: number;
  mode: 'site' | 'sum';
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
    .option('--epsilon <number>', 'privacy loss of each bank over the whole plan', numberOption, 1)
    .option('--delta <number>', 'probability that the loss is larger', numberOption, 1e-6)
    .addOption(new Option('--mode <mode>', 'trust mode').choices(['site', 'sum']).default('site'))
    .option('--sites <number>', 'banks of the consortium', integerOption, 5)
    .option('--roster <file>', 'take the number of banks and the least quorum from this roster')
    .option('--quorum <number>', 'banks a round needs (default: two thirds)', integerOption)
    .option('--colluders <number>', 'mode sum: banks that may show the aggregator their noise', integerOption)
    .option('--dropouts <number>', 'mode sum: banks that may be absent (default: all but the quorum)', integerOption)
    .option('--rows <number>', 'rows of all banks together, a public estimate', integerOption, 40_000)
    .option('--rounds <number>', 'gradient rounds of a scorecard', integerOption)
    .option('--holdout <share>', 'share of the customers that only evaluate the model', numberOption, 0.2)
    .option('--evaluation-share <share>', 'share of the loss (mu squared) the evaluation takes', numberOption, 0.2)
    .option('--no-evaluation', 'train on all customers and measure nothing')
    .option('--data-dir <dir>', 'a node: check its participation policy and the budget left; nothing is recorded')
    .option('--database-url <url>', 'PostgreSQL of that node (better: environment DATABASE_URL)')
    .option('--json', 'print {plan, planHash, statement}, with a node also {node}')
    .addHelpText(
      'after',
      `
Without --data-dir this only states. With it, a plan the node would refuse ends with exit code 1 and the code of the
refusal, such as BUDGET_EXHAUSTED or POLICY_EPSILON; the aggregator would get the same answer.

Examples:
  $ veilrisk plan --contract taiwan --epsilon 1 --sites 4
  $ veilrisk plan --contract taiwan --mode sum --sites 5 --colluders 1 --dropouts 1
  $ veilrisk plan --contract adult --family mlp --rows 26048 --sites 1
  $ veilrisk plan --plan plan.json --data-dir /var/lib/veilrisk/bank-a`,
    )
    .action(async (flags: PlanFlags) => {
      const roster = flags.roster === undefined ? null : await readRosterFloors(flags.roster);
      const contract = flags.contract === undefined ? null : (await readContract(flags.contract)).contract;
      const asksNode = flags.dataDir !== undefined || flags.databaseUrl !== undefined;
      let stated: Statement;
      let node: NodeOpinion | null = null;
      if (flags.plan !== undefined || flags.family === 'scorecard') {
        const plan = flags.plan === undefined ? newPlan(flags, contract, roster) : await readPlan(flags.plan);
        stated = statePlan(plan, contract);
        if (asksNode) {
          const context = await openNode(flags);
          node = await nodeOpinion(context, roster, plan, contract).finally(() => context.close());
        }
      } else {
        if (asksNode) throw usage('a node takes part in scorecard plans only', '--family');
        stated = otherFamily(flags.family, flags, contract, roster);
      }
      process.stdout.write(
        flags.json
          ? `${JSON.stringify({ ...stated, ...(node && { node }) }, null, 2)}\n`
          : `${describe(stated)}\n${node === null ? '' : `\n${describeNode(node)}\n`}`,
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
  const { evaluation, holdout, evaluationShare: share } = flags;
  return planFor(roster ?? { sites: flags.sites, minimumQuorum: 1 }, {
    ...{ ...flags, contract: needed(contract), expectedRows: flags.rows },
    evaluation: evaluation ? { holdout, share } : null,
  });
}

function otherFamily(
  family: 'logistic' | 'mlp' | 'adassp',
  { epsilon, delta, mode, rows, colluders = 0, dropouts = 0, sites }: PlanFlags,
  contract: Contract | null,
  roster: Floors | null,
): Statement {
  const wishes = {
    ...{ contract: needed(contract), epsilon, delta, mode, rows, colluders, dropouts },
    sites: roster?.sites ?? sites,
  };
  if (family === 'adassp') return stateAdaSsp(wishes);
  if (colluders + dropouts > 0) throw usage('DP-SGD tolerates no colluders and no drop-outs', '--colluders');
  return stateSgd(family, wishes);
}

function describe({ plan, planHash, statement }: Statement): string {
  const { family, mode, sites, unit, neighbours, delta, sampling, losses, releases } = statement;
  const id = 'id' in plan ? `  ${plan.id}` : '';
  const figures = new Table({
    head: ['release', 'sensitivity', 'sigma', 'sigma / sens.', 'mu', 'epsilon so far', 'readers mu', 'readers so far'],
    colAligns: ['left', ...new Array<'right'>(7).fill('right')],
    style: { head: [], border: [], compact: true },
  });
  for (const release of releases) figures.push(row(release));
  return [
    `plan       ${family}, trust mode ${mode}, ${sites} ${sites === 1 ? 'bank' : 'banks'}${id}`,
    `hash       ${planHash}`,
    `unit       ${unit}`,
    `neighbours ${neighbours}`,
    ...Object.values(losses).map(
      ({ epsilon, mu, against }, i) =>
        `${i === 0 ? 'loss      ' : '          '} epsilon ${up(epsilon)} at delta ${delta.toExponential()}` +
        `${mu === null ? '' : ` (mu ${mu.toPrecision(5)})`} against ${against}`,
    ),
    ...(sampling === null
      ? []
      : [
          `sampling   ${sampling.steps} steps by Poisson sampling: a record is in one with probability ` +
            `${figure(sampling.record)}, a customer with ${figure(sampling.customer)}`,
        ]),
    'each bank releases, with discrete Gaussian noise of sigma in every coordinate (units of the released integers):',
    figures.toString(),
    'not promised:',
    ...statement.notPromised.map((line) => `  - ${line}`),
  ].join('\n');
}

function row({ name, times, sensitivity, sigma, muSquared, readersMuSquared, ...so }: StatedRelease): string[] {
  const mu = (squared: number | null) => (squared === null ? '' : Math.sqrt(squared).toFixed(6));
  return [
    times === 1 ? name : `${times} ${name}`,
    figure(sensitivity),
    figure(figureOf(sigma)),
    figure(figureOf(sigma) / sensitivity),
    mu(muSquared),
    up(so.epsilon),
    mu(readersMuSquared),
    up(so.readersEpsilon),
  ];
}

function describeNode({ node, dataset, accepted, code, reason, budget, share }: NodeOpinion): string {
  const lines = [`node ${node}: ${accepted ? 'would take part' : `would refuse: ${code}: ${reason}`}`];
  if (budget !== null && share !== null) {
    lines.push(
      `  data set ${dataset}: budget epsilon ${budget.epsilon} at delta ${budget.delta.toExponential()}, spent ` +
        `${up(budget.spentEpsilon)}, left ${(Math.floor(budget.leftEpsilon * 1e4) / 1e4).toFixed(4)}; the plan takes ` +
        `${(100 * share).toFixed(2)} % of mu squared`,
    );
  }
  return lines.join('\n');
}

const figure = (value: number) => String(Number(value.toPrecision(6)));
const up = (epsilon: number) => (Math.ceil(epsilon * 1e4) / 1e4).toFixed(4);
