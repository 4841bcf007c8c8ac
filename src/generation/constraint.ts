/**
 * Which tokens may come next in one row, as of a grammar. Asked about candidates, best first, until enough of them are allowed; about all
 * tokens only where the likeliest do not suffice.
 */
export interface TokenConstraint {
  /** Whether the token may come next. Changes nothing. An end token is asked about like any other. */
  allows(id: number): boolean;
  /** The token has been chosen. */
  advance(id: number): void;
  /** Whether nothing may follow: the row ends, with the reason `stop`. */
  readonly isComplete: boolean;
  /** All tokens that may come next, for a constraint that can list them faster than by asking about each. */
  allowed?(): Iterable<number>;
}

/** Makes the constraint of a row, which starts with the first new token. */
export type ConstraintFactory = (row: number) => TokenConstraint;
