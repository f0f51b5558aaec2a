/** Options that say whom a plan trusts; `plan` and `train propose` share them. */
import { Option } from 'commander';

export const COLLUDERS = 'mode sum: banks that may stand with the aggregator (default: one in six, at least 1)';

/** Without it: `sum` from three banks on, if the quorum reaches the threshold. */
export const trustMode = () =>
  new Option(
    '--mode <mode>',
    'trust mode: sums under masks, or each bank by itself (default: sum from 3 banks on)',
  ).choices(['site', 'sum']);

export const aggregatorModel = () =>
  new Option('--aggregator-model <model>', 'mode sum: what the aggregator is taken to be capable of')
    .choices(['lying', 'watching'])
    .default('lying');
