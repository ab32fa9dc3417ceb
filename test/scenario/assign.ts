/**
 * Events of one moment have no order, so their answers are compared as a multiset: each answer
 * is given to an expectation that it fulfils, so that as many as possible are fulfilled.
 */

/**
 * Assigns answers to expectations, one to one (augmenting paths, at most count³ steps; a moment
 * has a few hundred answers). What fulfils nothing is given to what is left, in order.
 *
 * @param count how many there are of each
 * @param fits whether the answer fulfils the expectation
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

/** Finds an answer for an expectation, its own line's first; may move others to other answers. */
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
