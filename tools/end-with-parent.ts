/** tools/dev.ts loads this module into otpd, so that otpd stops when tools/dev.ts is killed. */
import cluster from 'node:cluster';

// A worker's channel leads to the first process of otpd, which ends its workers itself.
if (cluster.isPrimary) {
  process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
  // The channel must not keep a command alive that is done.
  process.channel?.unref();
}
