export { answerLine } from './answer-line.ts';
export { type BatchLine, countLines, LONGEST_LINE, readLines } from './lines.ts';
export { type BatchResult, FAILED, isAnswered, isServersFault } from './result.ts';
export { ResultsFile } from './results-file.ts';
export { workThrough } from './work-through.ts';
