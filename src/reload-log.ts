/** The log of reloads: what was read anew, and what is wrong with what was not. */
import { member, WORD_MAX_CHARACTERS } from './log-line.ts';
import type { Log } from './log.ts';
import type { ReloadNote } from './reload.ts';
import { messageOf } from './terminal.ts';

/** Room for many faults of one file. */
const FAULTS_MAX_CHARACTERS = 3000;

/** Makes the log of reloads. */
export function createReloadLog(log: Log): (note: ReloadNote) => void {
  return (note) => {
    const name = 'name' in note ? member('name', note.name, WORD_MAX_CHARACTERS) : '';
    const message = note.event === 'reload_failed'
      ? member('message', messageOf(note.error), FAULTS_MAX_CHARACTERS) : '';
    log.tell(note.event === 'reload_failed' ? 'error' : 'info', note.event, name + message);
  };
}
