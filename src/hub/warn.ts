/** Tells the user something that does not stop the load: a process warning, so that a program can listen or silence it. */
export function warn(message: string): void {
  process.emitWarning(message, { type: 'SwitchyardWarning' });
}
