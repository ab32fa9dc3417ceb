/** What holds of plain connections holds of TLS: the same tests once more, over TLS. */
import './speak-tls.ts';
import './answers.test.ts';
import './callers.test.ts';
import './connection.test.ts';
import './content.test.ts';
import './framing.test.ts';
import './otp-by-id.test.ts';
import './shutdown.test.ts';
import './timeouts.test.ts';
