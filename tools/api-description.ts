/**
 * `npm run api-description`: writes openapi.json, which otpd serves, from openapi.yaml. otpd has no
 * YAML parser at run time. A test compares the two files.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';

const SOURCE = fileURLToPath(new URL('../openapi.yaml', import.meta.url));
const TARGET = fileURLToPath(new URL('../openapi.json', import.meta.url));

writeFileSync(TARGET, `${JSON.stringify(parse(readFileSync(SOURCE, 'utf8')), null, 1)}\n`);
