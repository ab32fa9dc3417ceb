/**
 * The session variables of a connection. The statements rely on them, so no server, account or
 * proxy chooses them.
 */

const COLLATION = 'utf8mb4_0900_bin';

/**
 * Shorter than the deadline of a transaction, so that a wait for a held lock ends in a retry and
 * the connection survives, and no statement of a connection that was given up waits in the server
 * for long. The server looks once a second.
 */
const LOCK_WAIT_TIMEOUT_SECONDS = '1';

/** The highest value of a 64-bit variable: no limit. */
const UNLIMITED = '18446744073709551615';

/**
 * Every variable that any account may set and that could change a result, refuse or end a
 * statement, or change which rows it locks. MySQL 8.0.19 and later have all of them. Not set are
 * those that only cost time, those that need a privilege, and `wait_timeout`: the server may close
 * an idle connection.
 */
const ASSIGNED_VARIABLES = {
  // UTC, and errors instead of truncated values.
  time_zone: '+00:00',
  sql_mode: 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION',
  sql_auto_is_null: '0',
  max_sort_length: '1024',
  // Reads are fresh after a lock, and there are no gap locks.
  transaction_isolation: 'READ-COMMITTED',
  transaction_read_only: '0',
  // The first statement begins a transaction, and COMMIT begins or closes nothing else.
  autocommit: '0',
  completion_type: 'NO_CHAIN',
  innodb_lock_wait_timeout: LOCK_WAIT_TIMEOUT_SECONDS,
  lock_wait_timeout: LOCK_WAIT_TIMEOUT_SECONDS,
  max_execution_time: '0',
  // Without the check, a unique index may take a key twice.
  unique_checks: '1',
  sql_safe_updates: '0',
  sql_select_limit: UNLIMITED,
  // This order: max_join_size resets sql_big_selects.
  max_join_size: UNLIMITED,
  sql_big_selects: '1',
  sql_buffer_result: '0',
  // Beyond a limit of its memory the optimizer scans, and locks, the whole table; 0 is no limit.
  range_optimizer_max_mem_size: '0',
  use_secondary_engine: 'OFF',
};

/** What a connection has after its set-up. The character set is that of SET NAMES. */
export const SESSION_VARIABLES: Readonly<Record<string, string>> = Object.freeze({
  ...ASSIGNED_VARIABLES,
  character_set_client: 'utf8mb4',
  character_set_connection: 'utf8mb4',
  character_set_results: 'utf8mb4',
  collation_connection: COLLATION,
});

function assignment([name, value]: readonly [string, string]): string {
  return `${name} = ${/^\d+$/.test(value) ? value : `'${value}'`}`;
}

/**
 * SET NAMES overrides what `init_connect`, the server or a proxy chose: another character set would
 * replace the characters that it lacks. The last two have no fixed value to compare: the clock must
 * run, and the plans must be those that the tests have seen.
 */
export const SESSION_SETUP_SQL = `SET NAMES utf8mb4 COLLATE ${COLLATION},
  ${Object.entries(ASSIGNED_VARIABLES).map(assignment).join(', ')},
  timestamp = DEFAULT, optimizer_switch = 'default'`;

/** With it, a member of a group answers only with all that the group has committed before. */
export const STRICT_SETUP_SQL = `${SESSION_SETUP_SQL}, group_replication_consistency = 'BEFORE'`;

/** For checks of a server that may lack the collation or some of the variables. */
export const NO_SETUP_SQL = 'SET NAMES utf8mb4';
