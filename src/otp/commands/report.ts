/** How a command of the operator ends: in lines for a person, in one object for a program. */

/** The end of a command. */
export type Report = Readonly<{
  /** False: what was asked for was not done, or something is at fault. */
  isDone: boolean;
  lines: readonly string[];
  data: Readonly<Record<string, unknown>>;
  /** What a person should know beside it, whoever reads the rest. */
  remark?: string;
}>;

/** Arguments that a command cannot take; the message says which ones it takes. */
export class UsageError extends Error {
  override name = 'UsageError';
}
