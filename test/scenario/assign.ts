/**
 * Events of one moment have no order, so their answers are compared as a multiset: each answer is
 * assigned to an expectation that it meets, so that as many as possible are met.
 */

/**
 * Assigns answers to expectations, one to one, by augmenting paths (at most count³ steps; a moment
 * has a few hundred answers). Answers that meet no expectation fill the rest in order.
 *
 * @param count the number of answers, and of expectations
 * @param fits whether the answer meets the expectation
 * @returns for each expectation the index of its answer
 */
export function assignAnswers(
  count: number,
  fits: (expectation: number, answer: number) => boolean,
): number[] {
  const holderOf = new Array<number>(count).fill(-1);
  for (let expectation = 0; expectation < count; expectation += 1) {
    place(expectation, holderOf, new Set(), fits);
  }
  const answers = new Array<number>(count).fill(-1);
  holderOf.forEach((expectation, answer) => {
    if (expectation !== -1) answers[expectation] = answer;
  });
  const left = holderOf.flatMap((expectation, answer) => (expectation === -1 ? [answer] : []));
  return answers.map((answer) => (answer === -1 ? left.shift()! : answer));
}

/** Finds an answer for an expectation, first the one of its own line; may reassign others. */
function place(
  expectation: number,
  holderOf: number[],
  tried: Set<number>,
  fits: (expectation: number, answer: number) => boolean,
): boolean {
  const count = holderOf.length;
  for (let offset = 0; offset < count; offset += 1) {
    const answer = (expectation + offset) % count;
    if (tried.has(answer) || !fits(expectation, answer)) continue;
    tried.add(answer);
    const holder = holderOf[answer]!;
    if (holder === -1 || place(holder, holderOf, tried, fits)) {
      holderOf[answer] = expectation;
      return true;
    }
  }
  return false;
}
