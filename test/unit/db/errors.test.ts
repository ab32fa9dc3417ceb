import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { describeStatementError, StatementError } from '../../../src/db/errors.ts';

/** [error of the driver, class, code] */
const CASES: [object, string, string][] = [
  [{ errno: 1213, code: 'ER_LOCK_DEADLOCK' }, 'retry', 'ER_LOCK_DEADLOCK'],
  [{ errno: 1205, code: 'ER_LOCK_WAIT_TIMEOUT' }, 'retry', 'ER_LOCK_WAIT_TIMEOUT'],
  [{ errno: 1062, code: 'ER_DUP_ENTRY' }, 'retry', 'ER_DUP_ENTRY'],
  [{ errno: 1040, code: 'ER_CON_COUNT_ERROR' }, 'unavailable', 'ER_CON_COUNT_ERROR'],
  [{ errno: 1290, code: 'ER_OPTION_PREVENTS_STATEMENT' }, 'unavailable',
    'ER_OPTION_PREVENTS_STATEMENT'],
  [{ code: 'PROTOCOL_CONNECTION_LOST', fatal: true }, 'connectionLost', 'PROTOCOL_CONNECTION_LOST'],
  [{ errno: -111, code: 'ECONNREFUSED' }, 'connectionLost', 'ECONNREFUSED'],
  [{ code: 4031 }, 'connectionLost', '4031'],
  [{ fatal: true }, 'connectionLost', 'CONNECTION_LOST'],
  [{ errno: 1064, code: 'ER_PARSE_ERROR' }, 'bug', 'ER_PARSE_ERROR'],
  [{ errno: 1406, code: 'ER_DATA_TOO_LONG' }, 'bug', 'ER_DATA_TOO_LONG'],
  [new TypeError('a bug'), 'bug', 'CONNECTION_LOST'],
];

for (const [error, errorClass, code] of CASES) {
  test(`${JSON.stringify(error)} has the class ${errorClass}`, () => {
    const described = describeStatementError('otps.lock', error);
    assert.is(described.errorClass, errorClass);
    assert.is(described.message, `otps.lock: ${code}`);
  });
}

test('a StatementError contains neither SQL nor values nor the text of the server', () => {
  const error = describeStatementError('otps.store', {
    errno: 1062, code: 'ER_DUP_ENTRY', sql: 'INSERT secret', sqlMessage: 'Duplicate entry secret',
  });
  assert.not.match(JSON.stringify([error, error.message, error.stack]), /secret/);
  assert.is(describeStatementError('other', error), error);
  assert.instance(error, StatementError);
});

test.run();
