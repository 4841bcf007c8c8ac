export { answerLine } from './answer-line.ts';
export { countRequests } from './count-requests.ts';
export { DeadLetters } from './dead-letters.ts';
export { type BatchLine, LONGEST_LINE, readLines } from './lines.ts';
export { type BatchResult, FAILED, isAnswered, isServersFault } from './result.ts';
export { ResultsFile } from './results-file.ts';
export { workThrough } from './work-through.ts';
