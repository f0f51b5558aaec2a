/** `veilrisk train compare | influence`: which model to prefer, and what each site did to it. */
import type { Command } from 'commander';
import { comparePlans, type ModelComparison } from '../operations/compareModels.ts';
import { type InfluenceReport, planInfluence, type SiteInfluence } from '../operations/influence.ts';
import { openOperator } from '../operations/trainingPlans.ts';
import { plainTable, wrapped } from './text.ts';

interface OperatorFlags {
  roster: string;
  operatorKey: string;
  aggregator?: string;
  json?: boolean;
}

type Measure = { estimate: number; low: number; high: number } | null;

/** @param withOperator adds the options by which the operator is known, and reads them. */
export function registerTrainReports(train: Command, withOperator: (command: Command) => Command): void {
  withOperator(train.command('compare'))
    .description('compare the models of completed plans by their signed evaluations, and say which to prefer')
    .argument('<plan...>', 'plan ids, two or more')
    .option('--json', 'print the whole comparison as JSON')
    .addHelpText(
      'after',
      `
Costs no privacy: only published figures are used. Differences hold together with 95 %, noise included.

Example:
  $ veilrisk train compare 0b8f... 77ac... --roster roster.json --operator-key operator.pem`,
    )
    .action(async (planIds: string[], flags: OperatorFlags) => {
      const comparison = await comparePlans(await openOperator(pathsOf(flags)), planIds);
      process.stdout.write(flags.json ? `${JSON.stringify(comparison)}\n` : `${describeComparison(comparison)}\n`);
    });

  withOperator(train.command('influence'))
    .description("leave-one-out report: what each site's updates did to the model of a completed plan")
    .argument('<plan>', 'plan id')
    .option('--json', 'print the whole report as JSON')
    .addHelpText(
      'after',
      `
The aggregator computes it from the noised messages it has; no privacy is spent. In mode sum it has no single messages,
and the report says so. A site that is suspected deserves a question, not a verdict.

Example:
  $ veilrisk train influence 0b8f... --roster roster.json --operator-key operator.pem`,
    )
    .action(async (planId: string, flags: OperatorFlags) => {
      const report = await planInfluence(await openOperator(pathsOf(flags)), planId);
      process.stdout.write(flags.json ? `${JSON.stringify(report)}\n` : `${describeInfluence(report)}\n`);
    });
}

function pathsOf(flags: OperatorFlags): { roster: string; key: string; url: string | undefined } {
  return { roster: flags.roster, key: flags.operatorKey, url: flags.aggregator };
}

function describeComparison({ models, preferred, decided, cautions }: ModelComparison): string {
  const table = plainTable(['plan', 'AUC', 'best minus it', 'KS', 'calibrated']);
  for (const { planId, auc, ks, calibrated, behind } of models) {
    const difference = behind === null ? 'the best' : interval(behind.auc);
    const calibration = calibrated === null ? 'hidden' : calibrated ? 'yes' : 'no';
    table.push([planId.slice(0, 12), interval(auc), difference, interval(ks), calibration]);
  }
  const others = models
    .filter(({ mayBeBest, planId }) => mayBeBest && planId !== preferred)
    .map(({ planId }) => planId);
  const verdict =
    preferred === null
      ? 'no decision: the noise hides every AUC'
      : decided
        ? `prefer the model of plan ${preferred}: all others are worse, beyond noise, with 95 %`
        : `the noise does not allow a decision: ${preferred} has the best figure, but ${others.join(', ')} may be better`;
  return [table.toString(), ...cautions.map((caution) => wrapped('caution: ', caution)), wrapped('', verdict)].join(
    '\n',
  );
}

function describeInfluence({ sites, notes, falseAlarms, mode }: InfluenceReport): string {
  const table = plainTable([
    'site',
    'rounds',
    'records',
    'cosine',
    'norm',
    'logit shift',
    'AUC without it',
    'suspected',
  ]);
  for (const each of sites) {
    const { site, rounds, records, updates, withoutIt, evaluationWithoutIt, suspicion } = each;
    const [first] = updates;
    table.push([
      ...[site, rounds, records === null ? '-' : percent(records)],
      ...[first === undefined ? '-' : first.cosine.toFixed(2), first === undefined ? '-' : percent(first.share)],
      withoutIt === null ? '-' : withoutIt.logitShift.toFixed(3),
      interval(evaluationWithoutIt?.auc ?? null),
      suspicion === null ? '-' : suspicion.suspected.length === 0 ? 'no' : 'YES',
    ]);
  }
  const legend =
    'cosine and norm are those of the first gradient against the sum of the others; logit shift is how far the model ' +
    `would move without the site. Of honest banks any is suspected with at most ${percent(falseAlarms)}.`;
  const suspects = sites.filter(({ suspicion }) => (suspicion?.suspected.length ?? 0) > 0);
  return [
    table.toString(),
    ...(mode === 'site' ? [wrapped('', legend)] : []),
    ...suspects.map((site) => wrapped(`${site.site}: `, suspicionOf(site))),
    ...notes.map((note) => wrapped('', note)),
  ].join('\n');
}

const MEANING = {
  fields: 'its fields do not add up to the same records',
  range: 'its gradients are larger than its own counts could cause',
  direction: 'its gradients go another way than those of all others',
};

function suspicionOf({ suspicion }: SiteInfluence): string {
  return (suspicion?.suspected ?? [])
    .map((test) => `${MEANING[test]} (probability ${(suspicion?.tails[test] ?? 1).toExponential(1)} at an honest bank)`)
    .join('; ');
}

function interval(measure: Measure): string {
  if (measure === null) return 'hidden';
  return `${measure.estimate.toFixed(3)} [${measure.low.toFixed(3)}, ${measure.high.toFixed(3)}]`;
}

const percent = (share: number): string => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
