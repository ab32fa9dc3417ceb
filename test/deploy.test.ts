/**
 * What operators run agrees with otpd: the image, Compose, Kubernetes and systemd name variables
 * and secrets that exist, and keep the bounds of a stop. docs/deploy.md, "Checks of these files",
 * says what is checked by hand.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  healthCheck, lastStage, readCompose, readDockerfile, readKubernetes, textOf,
} from './harness/deployment.ts';
import { readPage, rowsOf } from './harness/markdown.ts';
import { canRun, works } from './harness/not-run.ts';
import { ROOT } from './harness/program.ts';

/** The longest stop of otpd; see src/app/process/shutdown.ts. */
const STOP_SECONDS = 25;

const VARIABLES = new Set(rowsOf(readPage('docs/configuration.md')).map(([name]) => name!));

/** What otpd needs at run time, as docs/deploy.md says. */
function runtimeNames(): string[] {
  const [, list = ''] = /At run time otpd needs (.*?)\.\n\n/s.exec(textOf('docs/deploy.md')) ?? [];
  return [...list.matchAll(/`([^`]+?)\/?`/g)].map(([, name]) => name!).sort();
}

/** Checks variables of otpd, and that each that names a secret names one that is mounted. */
function checkEnvironment(names: Record<string, string>, folder: string, mounted: string[]): void {
  const unknown = Object.keys(names).filter((name) => !VARIABLES.has(name));
  assert.equal(unknown, []);
  const files = Object.entries(names).filter(([name]) => name.endsWith('_FILE'));
  assert.equal(files.map(([, path]) => path).sort(),
    mounted.map((name) => `${folder}/${name}`).sort());
  const secrets = Object.keys(names).filter((name) => VARIABLES.has(`${name}_FILE`));
  assert.equal(secrets, [], 'a secret is a file');
}

test('the image has what otpd needs at run time, and runs it without a shell or root', () => {
  const all = readDockerfile();
  const [, copied = ''] = all.map(([, text]) => /cp -R (.*?) \/otpd/.exec(text) ?? [])
    .find((found) => found.length > 0) ?? [];
  assert.ok(runtimeNames().length >= 5);
  assert.equal(copied.split(' ').sort(), runtimeNames());
  const builds = all.map(([, text]) => text).filter((text) => /npm (ci|run)/.test(text));
  assert.match(builds.join('\n'), /^npm ci\nnpm run build\nnpm ci --omit=dev && /);
  const stage = new Map(lastStage());
  assert.match(stage.get('FROM')!, /^gcr\.io\/distroless\/nodejs\d+-debian\d+:nonroot$/);
  assert.match(stage.get('USER')!, /^[1-9]\d*:[1-9]\d*$/);
  assert.is(stage.get('COPY'), '--from=build /otpd /opt/otpd');
  assert.not.ok(stage.has('RUN'));
  const [program] = healthCheck();
  assert.equal(JSON.parse(stage.get('ENTRYPOINT')!), [program, 'dist/main.js']);
  assert.equal(JSON.parse(stage.get('CMD')!), ['serve']);
  const set = stage.get('ENV')!.split(' ').map((pair) => pair.split('=') as [string, string]);
  checkEnvironment(Object.fromEntries(set), '', []);
});

test('the build gets what it copies, and no other file', () => {
  const stage = readDockerfile().filter(([name, text]) =>
    name === 'COPY' && !text.startsWith('--from'));
  const copied = stage.flatMap(([, text]) => text.split(' ').slice(0, -1)).sort();
  const [first, ...kept] = textOf('.dockerignore').replace(/^#.*\n/gm, '').trim().split('\n');
  assert.is(first, '*');
  assert.equal(kept.map((line) => line.replace(/^!/, '')).sort(), copied);
});

test('compose.yaml migrates before it serves, on a durable MySQL, with secrets as files', () => {
  const { services, secrets } = readCompose();
  const { mysql, migrate, otpd } = services;
  assert.match(mysql!.image, /^mysql:8\.4$/);
  for (const option of ['innodb-flush-log-at-trx-commit=1', 'sync-binlog=1']) {
    assert.ok(mysql!.command!.includes(`--${option}`), option);
  }
  assert.equal(migrate!.depends_on, { mysql: { condition: 'service_healthy' } });
  assert.is(otpd!.depends_on!.migrate!.condition, 'service_completed_successfully');
  assert.is(otpd!.depends_on!.mysql!.condition, 'service_healthy');
  assert.equal([otpd!.restart, mysql!.restart], ['unless-stopped', 'unless-stopped']);
  assert.ok(parseInt(otpd!.stop_grace_period!, 10) > STOP_SECONDS);
  for (const service of [migrate!, otpd!]) {
    checkEnvironment(service.environment, '/run/secrets', service.secrets);
    assert.is(service.read_only, true);
  }
  const used = new Set(Object.values(services).flatMap((service) => service.secrets));
  assert.equal([...used].sort(), Object.keys(secrets).sort());
  const documented = textOf('docs/deploy.md');
  for (const [name, { file }] of Object.entries(secrets)) {
    assert.is(file, `./secrets/${name}`);
    assert.ok(documented.includes(`secrets/${name}`), name);
  }
  assert.ok(textOf('.gitignore').split('\n').includes('secrets/'));
});

test('the objects of Kubernetes agree with each other and with otpd', () => {
  const objects = readKubernetes();
  const { spec } = objects.get('Deployment')!;
  const { labels, annotations } = spec.template.metadata;
  assert.ok(spec.replicas! >= 2);
  for (const kind of ['Service', 'PodDisruptionBudget', 'Deployment']) {
    const { selector } = objects.get(kind)!.spec;
    assert.equal(kind === 'Service' ? selector : selector.matchLabels, labels, kind);
  }
  assert.not.equal(objects.get('Job')!.spec.template.metadata.labels, labels);
  assert.ok(objects.get('PodDisruptionBudget')!.spec.minAvailable! < spec.replicas!);
  const settings = objects.get('ConfigMap')!.data!;
  for (const kind of ['Deployment', 'Job']) {
    const pod = objects.get(kind)!.spec.template.spec;
    const [container] = pod.containers;
    const own = Object.fromEntries(container!.env.map(({ name, value }) => [name, value]));
    const [volume] = pod.volumes;
    checkEnvironment({ ...settings, ...own }, container!.volumeMounts[0]!.mountPath,
      volume!.secret.items.map(({ path }) => path));
    assert.equal(volume!.secret.items.filter(({ key, path }) => key !== path), []);
    assert.is(pod.securityContext.runAsNonRoot, true);
    assert.is(`${pod.securityContext.runAsUser}:${pod.securityContext.runAsGroup}`,
      new Map(lastStage()).get('USER'));
    assert.is(container!.securityContext.readOnlyRootFilesystem, true);
    assert.ok(container!.resources.limits.memory !== undefined);
  }
  const pod = spec.template.spec;
  const [container] = pod.containers;
  const ports = new Map(container!.ports!.map(({ name, containerPort }) => [name, containerPort]));
  assert.equal([...ports.values()].join(' '), new Map(lastStage()).get('EXPOSE'));
  assert.is(annotations['prometheus.io/port'], String(ports.get('admin')));
  assert.equal(objects.get('Service')!.spec.ports.map(({ targetPort }) => targetPort), ['http']);
  const probes = ['startupProbe', 'livenessProbe', 'readinessProbe'] as const;
  assert.equal(probes.map((name) => container![name]!.httpGet),
    ['/livez', '/livez', '/readyz'].map((path) => ({ path, port: 'admin' })));
  assert.ok(pod.terminationGracePeriodSeconds! > STOP_SECONDS);
});

/** The settings of a unit file; a name that occurs twice has a list. */
function readUnit(path: string): Map<string, string[]> {
  const settings = new Map<string, string[]>();
  let section = '';
  for (const line of textOf(path).trimEnd().split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const title = /^\[(\w+)\]$/.exec(line)?.[1];
    const [, name, value] = /^(\w+)=(.*)$/.exec(line) ?? [];
    assert.ok(title !== undefined || name !== undefined, line);
    if (title !== undefined) section = title;
    else settings.set(`${section}.${name}`, [...settings.get(`${section}.${name}`) ?? [], value!]);
  }
  return settings;
}

const UNIT = 'deploy/otpd.service';

test('the systemd unit serves from the build, reloads by SIGHUP and waits for a stop', () => {
  const settings = readUnit(UNIT);
  assert.equal(settings.get('Service.ExecStart'), ['/usr/bin/node dist/main.js serve']);
  assert.equal(settings.get('Service.ExecReload'), ['/bin/kill -HUP $MAINPID']);
  assert.equal(settings.get('Service.KillMode'), ['mixed']);
  assert.ok(Number(settings.get('Service.TimeoutStopSec')![0]) > STOP_SECONDS);
  const credentials = settings.get('Service.LoadCredential')!
    .map((entry) => /^(\w+):\/etc\/otpd\/\1$/.exec(entry)![1]!);
  const set = settings.get('Service.Environment')!.map((pair) => pair.split('='));
  checkEnvironment(Object.fromEntries(set), '%d', credentials);
});

const EXPOSED = 'systemd finds the unit exposed by less than 2.0 of 10';

// systemd is not on every machine.
if (canRun(EXPOSED, works('systemd-analyze', '--version'), 'systemd-analyze is not installed')) {
  test(EXPOSED, () => {
    const parameters = ['security', '--offline=true', '--threshold=20', '--no-pager',
      join(ROOT, UNIT)];
    const { status, stdout } = spawnSync('systemd-analyze', parameters, { encoding: 'utf8' });
    assert.is(status, 0, stdout);
  });
}

test.run();
