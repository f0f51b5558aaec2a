/**
 * Ranking quality of scores: AUC and Kolmogorov-Smirnov distance.
 *
 * AUC is the Mann-Whitney statistic with ties counted half (Hanley, McNeil 1982); KS the largest gap between the two
 * classes' distribution functions. Limit: exact, hence NOT private; the results must stay where the data is.
 */
import { LearningError } from '../errors.ts';

/** Probability that a random positive scores above a random negative, ties half; 0.5 is chance. */
export function auc(scores: ArrayLike<number>, labels: ArrayLike<number>): number {
  const { positives, negatives, groups } = byScore(scores, labels);
  let below = 0;
  let wins = 0;
  for (const group of groups) {
    wins += group.positives * (below + group.negatives / 2);
    below += group.negatives;
  }
  return wins / (positives * negatives);
}

/** Largest distance between the score distributions of the two classes, in [0, 1]. */
export function ks(scores: ArrayLike<number>, labels: ArrayLike<number>): number {
  const { positives, negatives, groups } = byScore(scores, labels);
  let seenPositives = 0;
  let seenNegatives = 0;
  let largest = 0;
  for (const group of groups) {
    seenPositives += group.positives;
    seenNegatives += group.negatives;
    largest = Math.max(largest, Math.abs(seenPositives / positives - seenNegatives / negatives));
  }
  return largest;
}

interface ScoreGroup {
  positives: number;
  negatives: number;
}

/** Class counts of each distinct score, ascending. */
function byScore(scores: ArrayLike<number>, labels: ArrayLike<number>) {
  if (scores.length !== labels.length) {
    throw new LearningError('TRAINING_INPUT', 'there must be one label for each score');
  }
  const order = Uint32Array.from(scores, (score, i) => {
    if (Number.isNaN(score))
      throw new LearningError('TRAINING_INPUT', 'a score is not a number', { where: `row ${i}` });
    return i;
  }).sort((a, b) => scores[a] - scores[b]);
  const groups: ScoreGroup[] = [];
  let positives = 0;
  let previous: number | null = null;
  for (const i of order) {
    if (previous === null || scores[i] !== previous) groups.push({ positives: 0, negatives: 0 });
    previous = scores[i];
    const group = groups[groups.length - 1];
    if (labels[i] === 1) {
      group.positives++;
      positives++;
    } else group.negatives++;
  }
  const negatives = scores.length - positives;
  if (positives === 0 || negatives === 0) {
    throw new LearningError('TRAINING_INPUT', 'ranking quality needs records of both labels');
  }
  return { positives, negatives, groups };
}
