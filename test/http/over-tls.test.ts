/** Runs the tests of plain connections over TLS. */
import './speak-tls.ts';
import './response.test.ts';
import './input/api-keys.test.ts';
import './connection.test.ts';
import './input/body.test.ts';
import './server.test.ts';
import './routes.test.ts';
import './shutdown.test.ts';
import './timeouts.test.ts';
