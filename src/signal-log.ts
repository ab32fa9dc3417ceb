/** The log of what signals lead to: reloads and rolling restarts, and what is wrong with them. */
import { member, WORD_MAX_CHARACTERS } from './log-line.ts';
import type { Log } from './log.ts';
import type { ReloadNote } from './reload.ts';
import type { RollNote } from './roll.ts';
import { messageOf } from './terminal.ts';

/** Takes a note; never throws. */
export type NoteSignal = (note: ReloadNote | RollNote) => void;

/** Room for many faults of one file. */
const FAULTS_MAX_CHARACTERS = 3000;

/** Makes the log. */
export function createSignalLog(log: Log): NoteSignal {
  return (note) => {
    const isFault = 'error' in note;
    log.tell(isFault ? 'error' : 'info', note.event,
      ('name' in note ? member('name', note.name, WORD_MAX_CHARACTERS) : '')
      + ('worker' in note ? `,"worker":${note.worker}` : '')
      + (isFault ? member('message', messageOf(note.error), FAULTS_MAX_CHARACTERS) : ''));
  };
}
