/** Makes the tests of this folder that are imported after this module use TLS. */
import { speakTls } from './transport.ts';

speakTls();
