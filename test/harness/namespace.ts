/**
 * A process with mounts of its own (user_namespaces(7)): a file system or a file that only it
 * sees. It needs no right of root's, but a kernel that lets anybody have such a namespace.
 */
import { spawnSync } from 'node:child_process';

/** Runs a script that mounts, then the command that comes after it, in its place. */
function inNamespace(mounts: string, values: readonly string[]): string[] {
  const script = `${mounts} && shift ${values.length} && exec "$@"`;
  return ['unshare', '--map-root-user', '--mount', 'sh', '-c', script, 'sh', ...values];
}

/** What to put before a command so that a folder is an empty file system of so many bytes. */
export function withSmallDisk(folder: string, bytes: number): string[] {
  return inNamespace('mount -t tmpfs -o "size=$1" tmpfs "$2"', [String(bytes), folder]);
}

/** What to put before a command so that it sees another file in the place of one. */
export function withFileInPlace(path: string, other: string): string[] {
  return inNamespace('mount --bind "$1" "$2"', [other, path]);
}

/** Whether this machine lets us. */
export function canMount(): boolean {
  const [program = '', ...parameters] = withSmallDisk('/mnt', 1_048_576);
  return spawnSync(program, [...parameters, 'true']).status === 0;
}
