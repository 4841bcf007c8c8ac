export { type LanguageModelSettings, languageModel } from './language-model.ts';
