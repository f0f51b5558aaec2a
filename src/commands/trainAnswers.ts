/** `veilrisk train offers | accept`: a person at a bank decides on plans that its policy leaves to people. */
import type { Command } from 'commander';
import type { NodeFlags, OpenNode } from '../operations/context.ts';
import { type Decision, decidePlan, listOffers, type Offer } from '../operations/planAnswers.ts';
import { lossUp, wrapped } from './text.ts';
import { withNodeOf } from './withNode.ts';

export function registerTrainAnswers(train: Command, openNode: OpenNode): void {
  const withNode = withNodeOf(openNode);

  nodeFlags(train.command('offers'))
    .description('a bank: plans that wait for a person, with what they release and cost')
    .option('--json', 'print an array of {planId, planHash, dataset, offeredAt, statement}')
    .addHelpText(
      'after',
      `
Plans wait where the node's participation-policy.json says "answers": "manual". One that is not decided before the
operator's deadline runs without this bank, or not at all.

Example:
  $ veilrisk train offers --data-dir /var/lib/veilrisk/bank-a`,
    )
    .action(async (flags: NodeFlags & { json?: boolean }) => {
      const offers = await withNode(flags, listOffers);
      if (flags.json) process.stdout.write(`${JSON.stringify(offers, null, 2)}\n`);
      else process.stdout.write(offers.length === 0 ? 'no plan waits\n' : offers.map(describe).join('\n'));
    });

  nodeFlags(train.command('accept'))
    .description('a bank: take part in a plan that waits, or refuse it; the running node answers within two seconds')
    .argument('<plan>', 'plan id')
    .option('--refuse', 'do not take part')
    .option('--reason <text>', 'with --refuse: what the operator reads', 'The bank declined this plan.')
    .option('--json', 'print {planId, accepted} as JSON')
    .addHelpText(
      'after',
      `
Policy and budget are checked once more; a plan they would refuse by now ends with exit code 1 and goes on waiting.

Examples:
  $ veilrisk train accept 0b8f... --data-dir /var/lib/veilrisk/bank-a
  $ veilrisk train accept 0b8f... --refuse --reason 'Not before the audit.' --data-dir /var/lib/veilrisk/bank-a`,
    )
    .action(async (planId: string, flags: NodeFlags & { refuse?: boolean; reason: string; json?: boolean }) => {
      const decision: Decision = flags.refuse ? { accept: false, reason: flags.reason } : { accept: true };
      await withNode(flags, (context) => decidePlan(context, planId, decision));
      const said = decision.accept ? 'accepted' : 'refused';
      process.stdout.write(
        flags.json ? `${JSON.stringify({ planId, accepted: decision.accept })}\n` : `plan ${planId} ${said}\n`,
      );
    });
}

function nodeFlags(command: Command): Command {
  return command
    .option('--data-dir <dir>', 'the node')
    .option('--database-url <url>', 'PostgreSQL of that node (better: environment DATABASE_URL)');
}

function describe({ planId, dataset, offeredAt, statement: { planHash, statement } }: Offer): string {
  const { family, mode, sites, delta, losses, notPromised } = statement;
  return [
    `plan       ${planId}`,
    `hash       ${planHash}`,
    `offered    ${offeredAt}`,
    `what       ${family}, trust mode ${mode}, ${sites} banks, data set ${dataset ?? '-'}`,
    ...Object.values(losses).map(({ epsilon, against }, i) =>
      wrapped(
        i === 0 ? 'loss       ' : '           ',
        `epsilon ${lossUp(epsilon)} at delta ${delta.toExponential()} against ${against}`,
      ),
    ),
    'not promised:',
    ...notPromised.map((line) => wrapped('  - ', line)),
    '',
  ].join('\n');
}
