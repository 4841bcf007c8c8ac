export {
  ChatSwitchyard,
  type ChatSwitchyardCallOptions,
  type ChatSwitchyardFields,
} from './chat-model.ts';
