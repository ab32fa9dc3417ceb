import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { describeStatementError, StatementError } from '../../../src/db/errors.ts';

/** [error of the driver, class, code] */
const CASES: [object, string, string][] = [
  [{ errno: 1213, code: 'ER_LOCK_DEADLOCK' }, 'retry', 'ER_LOCK_DEADLOCK'],
  [{ errno: 1205, code: 'ER_LOCK_WAIT_TIMEOUT' }, 'retry', 'ER_LOCK_WAIT_TIMEOUT'],
  [{ errno: 1062, code: 'ER_DUP_ENTRY' }, 'retry', 'ER_DUP_ENTRY'],
  [{ errno: 1040, code: 'ER_CON_COUNT_ERROR' }, 'unavailable', 'ER_CON_COUNT_ERROR'],
  [{ errno: 1290, code: 'ER_OPTION_PREVENTS_STATEMENT' }, 'moved',
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

/** The classes by the numbers of the MySQL error reference, and what they say. */
const NUMBERS: Readonly<Record<string, readonly number[]>> = {
  'retry: a lost race': [1062, 1205, 1213, 1412, 1689, 3101, 3572],
  'connectionLost: the connection has ended': [
    1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1184, 1317, 1927, 3169, 4031,
  ],
  'unavailable: read-only': [1036, 1207, 1223, 1792, 3989],
  'moved: the server is not the primary': [1290, 1836, 1874, 3032, 3100, 3796, 3797, 3798, 3799],
  'unavailable: storage': [
    1015, 1016, 1017, 1021, 1024, 1026, 1030, 1034, 1035, 1114, 1180, 1194, 1195, 1712, 1812, 1814,
    1877, 3019, 3185, 3510, 3675,
  ],
  'unavailable: memory and quotas': [
    1037, 1038, 1040, 1041, 1119, 1135, 1197, 1203, 1206, 1226, 1436, 1637, 1705, 3015, 3024, 3170,
    3186, 3231, 3985, 4081, 4082,
  ],
  'unavailable: the account': [
    1044, 1045, 1129, 1130, 1142, 1143, 1227, 1251, 1275, 1370, 1524, 1698, 1820, 1862, 3118, 3159,
    3879, 3955,
  ],
  'unavailable: settings': [
    1028, 1049, 1104, 1146, 1175, 1534, 1593, 1598, 1661, 1662, 1663, 1664, 1665, 1666, 1667, 1781,
    1782, 1785, 1844, 3161, 3164, 3889,
  ],
  'unavailable: the group': [3098, 3781, 3782],
  'bug: the statement is wrong': [
    1048, 1052, 1054, 1064, 1065, 1066, 1111, 1136, 1149, 1210, 1241, 1242, 1264, 1267, 1292, 1305,
    1364, 1365, 1366, 1406, 1451, 1452, 1690, 3140, 3819,
  ],
};

for (const [meaning, numbers] of Object.entries(NUMBERS)) {
  test(`error numbers have the class ${meaning}`, () => {
    const classes = numbers.map((errno) =>
      `${errno} ${describeStatementError('otps.lock', { errno, code: 'ER_X' }).errorClass}`);
    assert.equal(classes, numbers.map((errno) => `${errno} ${meaning.split(':')[0]}`));
  });
}

test('a COMMIT leaves a doubt when its connection is lost, or the group refuses it', () => {
  const doubts = [3100, 3101, 1290, 1836, 1205, 1053, 3797].filter((errno) =>
    describeStatementError('commit', { errno, code: 'ER_X' }).leavesDoubt);
  assert.equal(doubts, [3100, 1053]);
});

test('a session on a server that is not the primary is not used again', () => {
  for (const errno of [1290, 1836, 1874, 3032, 3100, 3796, 3797, 3798, 3799]) {
    assert.ok(describeStatementError('otps.lock', { errno, code: 'ER_X' }).isOfSession, `${errno}`);
  }
});

test('a StatementError contains neither SQL nor values nor the text of the server', () => {
  const error = describeStatementError('otps.store', {
    errno: 1062, code: 'ER_DUP_ENTRY', sql: 'INSERT secret', sqlMessage: 'Duplicate entry secret',
  });
  assert.not.match(JSON.stringify([error, error.message, error.stack]), /secret/);
  assert.is(describeStatementError('other', error), error);
  assert.instance(error, StatementError);
});

test.run();
