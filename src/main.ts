#!/usr/bin/env node
/** The entry point of otpd: runs one command line and exits with its code. */
import { runCommandLine } from './app/cli/commands.ts';
import { isWorker } from './app/process/workers.ts';

process.exitCode = await runCommandLine(process.argv.slice(2));
// The IPC channel to the primary process would keep a worker alive.
if (isWorker()) process.exit();
