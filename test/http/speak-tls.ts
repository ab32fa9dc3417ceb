/** Importing this first makes the tests of this folder that are imported after it speak TLS. */
import { speakTls } from './transport.ts';

speakTls();
