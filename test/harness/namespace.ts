/**
 * A process with its own mounts (user_namespaces(7)): only it sees a file system or a file. This
 * needs no root, but a kernel that permits user namespaces to everybody.
 */
import { spawnSync } from 'node:child_process';

/** Runs a script that mounts, then replaces it by the command that follows. */
function inNamespace(mounts: string, values: readonly string[]): string[] {
  const script = `${mounts} && shift ${values.length} && exec "$@"`;
  return ['unshare', '--map-root-user', '--mount', 'sh', '-c', script, 'sh', ...values];
}

/** A prefix for a command, which sees the folder as an empty file system of this size. */
export function withSmallDisk(folder: string, bytes: number): string[] {
  return inNamespace('mount -t tmpfs -o "size=$1" tmpfs "$2"', [String(bytes), folder]);
}

/** A prefix for a command, which sees the other file in place of this one. */
export function withFileInPlace(path: string, other: string): string[] {
  return inNamespace('mount --bind "$1" "$2"', [other, path]);
}

/** Whether this machine permits mounts in a namespace. */
export function canMount(): boolean {
  const [program = '', ...parameters] = withSmallDisk('/mnt', 1_048_576);
  return spawnSync(program, [...parameters, 'true']).status === 0;
}
