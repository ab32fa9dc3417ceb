/** nginx in front of otpd: an installed one, or one that is fetched from Debian without root. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCommand } from '../../tools/mysql/command.ts';
import { copyNameOf, launchFrom } from '../../tools/mysql/fetch/download.ts';
import { fetchCopy } from '../../tools/mysql/fetch/fetch.ts';
import { findProgram } from '../../tools/mysql/locate.ts';
import { readMysqlSettings } from '../../tools/mysql/settings.ts';
import { freePort } from '../harness/free-port.ts';
import { SHELL } from '../harness/program.ts';
import { eventually } from '../harness/waiting.ts';

const NGINX = Object.freeze({
  product: 'nginx',
  packages: ['nginx', 'nginx-light', 'nginx-core'],
  copyName: copyNameOf('nginx'),
  ways: 'Install nginx, so that it is on the PATH, and start again.',
});

/** The path of the program in the packages. */
const PROGRAM = 'usr/sbin/nginx';

const VERSION_TIMEOUT_MS = 60_000;

type Launch = Readonly<{ program: string; leading: readonly string[] }>;

/** Finds nginx on the PATH, among the fetched copies, or in the archive of the distribution. */
async function obtainNginx(): Promise<Launch> {
  const { searchPath, cacheFolder } = readMysqlSettings(SHELL);
  const installed = await findProgram('nginx', `${searchPath}:/usr/sbin`);
  if (installed !== undefined) return { program: installed, leading: [] };
  const root = join(cacheFolder, NGINX.copyName);
  const cached = await launchFrom(root, PROGRAM);
  if (cached !== undefined) return cached;
  const options = {
    searchPath, cacheFolder, etcFolder: '/etc', keyringFolder: '/usr/share/keyrings',
    print: () => {},
  };
  await fetchCopy(NGINX, options, async (unpacked) => {
    const launch = await launchFrom(unpacked, PROGRAM);
    if (launch === undefined) return 'the unpacked nginx is not complete';
    const parameters = [...launch.leading, '-v'];
    const end = await runCommand(launch.program, parameters, { timeoutMs: VERSION_TIMEOUT_MS });
    return end.succeeded ? null : `the unpacked nginx does not run: ${end.output}`;
  });
  return (await launchFrom(root, PROGRAM))!;
}

export type Nginx = Readonly<{
  port: number;
  /** The lines of the error log. */
  errors: () => string;
  stop: () => Promise<void>;
}>;

/** One process and no daemon, so that the test owns it; all files in one folder. */
function configurationOf(folder: string, port: number, upstream: number): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `  ${name}_temp_path ${folder}/${name};`).join('\n');
  return `daemon off;
master_process off;
pid ${folder}/nginx.pid;
error_log stderr warn;
events { worker_connections 512; }
http {
  access_log off;
${temporary}
  large_client_header_buffers 4 32k;
  upstream otpd {
    server 127.0.0.1:${upstream};
    keepalive 32;
  }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://otpd;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }
  }
}
`;
}

/** Starts nginx as docs/deploy.md configures it, with keep-alive to otpd. */
export async function startNginx(upstream: number): Promise<Nginx> {
  const { program, leading } = await obtainNginx();
  const folder = mkdtempSync(join(tmpdir(), 'otpd-nginx-'));
  const port = await freePort();
  const file = join(folder, 'nginx.conf');
  writeFileSync(file, configurationOf(folder, port, upstream));
  const child = spawn(program, [...leading, '-p', folder, '-c', file, '-e', 'stderr'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => { errors += chunk.toString(); });
  const ended = once(child, 'close');
  await eventually('nginx listens', async () => {
    if (child.exitCode !== null) throw new Error(`nginx ended with ${child.exitCode}: ${errors}`);
    return isListening(port);
  });
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  return { port, errors: () => errors, stop };
}

function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => { socket.destroy(); resolve(true); });
    socket.once('error', () => resolve(false));
  });
}
