/** The expressions of deploy/prometheus/rules.yml and deploy/grafana/otpd.json, and their names. */
import { parse } from 'yaml';
import { textOf } from './deployment.ts';

export const RULES = 'deploy/prometheus/rules.yml';
export const RULE_TESTS = 'deploy/prometheus/rules.test.yml';
export const DASHBOARD = 'deploy/grafana/otpd.json';

export type Rule = Readonly<{
  record?: string;
  alert?: string;
  expr: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
}>;

export function readRules(): Rule[] {
  const { groups } = parse(textOf(RULES)) as { groups: { rules: Rule[] }[] };
  return groups.flatMap(({ rules }) => rules);
}

export type RuleTest = Readonly<{
  name: string;
  alert_rule_test: { alertname: string; exp_alerts: object[] }[];
}>;

export function readRuleTests(): RuleTest[] {
  return (parse(textOf(RULE_TESTS)) as { tests: RuleTest[] }).tests;
}

type Panel = Readonly<{
  id: number;
  title: string;
  type: string;
  gridPos: { x: number; y: number; w: number; h: number };
  targets?: { expr: string }[];
}>;

export function readPanels(): Panel[] {
  return (JSON.parse(textOf(DASHBOARD)) as { panels: Panel[] }).panels;
}

/** The expressions of the dashboard as Grafana sends them, for all jobs and instances. */
export function dashboardExpressions(): string[] {
  return readPanels().flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))
    .map((expr) => expr.replaceAll(/\$(job|instance)/g, '.*')
      .replaceAll('$__rate_interval', '1m'));
}

/** A name in an expression, with the labels that its selector has. */
export type Selected = Readonly<{ name: string; labels: string[] }>;

const WORDS = new Set(['and', 'or', 'unless', 'by', 'without', 'on', 'ignoring', 'bool', 'offset']);
const GROUPING = /\b(?:by|without|on|ignoring|group_left|group_right) *\(([^)]*)\)/g;

/** The metrics that an expression selects. */
export function selectedBy(expr: string): Selected[] {
  const bare = expr.replace(/"(?:[^"\\]|\\.)*"/g, '""').replace(GROUPING, '')
    .replace(/\[[^\]]*\]/g, '');
  return [...bare.matchAll(/([a-zA-Z_:][\w:]*)(\s*\()?(?:\{([^}]*)\})?/g)]
    .filter(([, name, call]) => call === undefined && !WORDS.has(name!))
    .map(([, name, , matchers = '']) => ({
      name: name!, labels: [...matchers.matchAll(/(\w+) *(?:=~|!~|!=|=)/g)].map(([, it]) => it!),
    }));
}

/** The labels by which an expression groups. */
export function groupedBy(expr: string): string[] {
  return [...expr.matchAll(GROUPING)].flatMap(([, list = '']) =>
    list.split(',').map((label) => label.trim()));
}
