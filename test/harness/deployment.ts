/** The files of deploy/, the Dockerfile and compose.yaml as tests read them. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { ROOT } from './program.ts';

export function textOf(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

/** The instructions of a Dockerfile with their text, in order; a continued line is one. */
export function readDockerfile(): (readonly [name: string, text: string])[] {
  const lines = textOf('Dockerfile').replace(/^#.*\n/gm, '').replace(/\\\n\s*/g, '').split('\n');
  return lines.filter((line) => line !== '').map((line) => {
    const [, name, text] = /^([A-Z]+) (.*)$/.exec(line) ?? [];
    if (name === undefined) throw new Error(`no instruction: ${line}`);
    return [name, text!] as const;
  });
}

/** The instructions after the last FROM. */
export function lastStage(): (readonly [name: string, text: string])[] {
  const all = readDockerfile();
  return all.slice(all.findLastIndex(([name]) => name === 'FROM'));
}

/** The program and the parameters of HEALTHCHECK. */
export function healthCheck(): string[] {
  const text = lastStage().find(([name]) => name === 'HEALTHCHECK')?.[1] ?? '';
  return JSON.parse(text.slice(text.indexOf('['))) as string[];
}

export type ComposeService = Readonly<{
  image: string;
  command?: string[];
  environment: Record<string, string>;
  secrets: string[];
  depends_on?: Record<string, { condition: string }>;
  healthcheck?: { test?: string[]; disable?: boolean };
  restart: string;
  read_only?: boolean;
  stop_grace_period?: string;
  volumes?: string[];
}>;

export type Compose = Readonly<{
  services: Record<string, ComposeService>;
  secrets: Record<string, { file: string }>;
}>;

export function readCompose(): Compose {
  return parse(textOf('compose.yaml')) as Compose;
}

/** A container of a pod. */
export type Container = Readonly<{
  image: string;
  args?: string[];
  env: { name: string; value: string }[];
  envFrom: { configMapRef: { name: string } }[];
  ports?: { name: string; containerPort: number }[];
  resources: { limits: { memory: string }; requests: { memory: string } };
  securityContext: Record<string, unknown>;
  volumeMounts: { name: string; mountPath: string }[];
} & Record<`${string}Probe`, { httpGet: { path: string; port: string } }>>;

export type PodSpec = Readonly<{
  containers: Container[];
  securityContext: Record<string, unknown>;
  terminationGracePeriodSeconds?: number;
  volumes: { secret: { secretName: string; items: { key: string; path: string }[] } }[];
}>;

type Labels = Record<string, string>;

/** An object of Kubernetes, with the members that tests read. */
export type KubernetesObject = Readonly<{
  kind: string;
  metadata: { name: string };
  data?: Record<string, string>;
  spec: {
    replicas?: number;
    minAvailable?: number;
    selector: Labels & { matchLabels: Labels };
    ports: { port: number; targetPort: string }[];
    template: { metadata: { labels: Labels; annotations: Labels }; spec: PodSpec };
  };
}>;

const KUBERNETES = 'deploy/kubernetes';

/** The objects by kind; fails for a file that the kustomization does not list. */
export function readKubernetes(): Map<string, KubernetesObject> {
  const { resources } = parse(textOf(`${KUBERNETES}/kustomization.yaml`)) as {
    resources: string[];
  };
  const files = readdirSync(join(ROOT, KUBERNETES)).filter((name) => !/^kustom/.test(name)).sort();
  if (`${files}` !== `${[...resources].sort()}`) throw new Error(`other files: ${files}`);
  return new Map(files.map((name) => {
    const object = parse(textOf(`${KUBERNETES}/${name}`)) as KubernetesObject;
    return [object.kind, object] as const;
  }));
}
