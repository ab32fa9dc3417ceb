/** `otpd doctor`: all findings as the end of a command. */
import type { Report } from '../report.ts';
import type { Finding } from './finding.ts';

const LEVEL_WIDTH = 5;
const CHECK_WIDTH = 13;

/** Puts the findings together; a fault is an end with 1. */
export function reportFindings(findings: readonly Finding[]): Report {
  const count = (level: Finding['level']): number =>
    findings.filter((finding) => finding.level === level).length;
  const [faults, warnings] = [count('fault'), count('warn')];
  const outcome = faults > 0 ? 'fault' : warnings > 0 ? 'warn' : 'ok';
  const sum = `${numbered(faults, 'fault')}, ${numbered(warnings, 'warning')}`;
  return {
    isDone: faults === 0,
    lines: [...findings.map(lineOf), sum],
    data: { outcome, faults, warnings, findings },
  };
}

function lineOf({ level, check, found, remedy }: Finding): string {
  const start = `${level.padEnd(LEVEL_WIDTH)}  ${check.padEnd(CHECK_WIDTH)}  ${found}`;
  return remedy === null ? start : `${start}; ${remedy}`;
}

function numbered(count: number, word: string): string {
  return `${count === 0 ? 'no' : count} ${word}${count === 1 ? '' : 's'}`;
}
