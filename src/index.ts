import { requireNode } from './runtime/node-version.ts';

export type { ActivationQuantization } from './auto/activation-quantization.ts';
export {
  AutoConfig,
  AutoModel,
  AutoModelForCausalLM,
  AutoModelForImageTextToText,
  AutoTokenizer,
} from './auto/auto-classes.ts';
export { AutoProcessor, type ProcessorLoadOptions } from './auto/auto-processor.ts';
export type { ConfigOverride, PretrainedConfig } from './auto/load-config.ts';
export type { LoadOptions } from './auto/load-options.ts';
export { DEMO_MODEL, type ModelSource, resolveRepo } from './auto/open-repo.ts';
export type { PinnedExperts } from './auto/pinned-experts.ts';
export type { PrefixCacheOptions } from './auto/prefix-cache-options.ts';
export { type SavedCheckpoint, type SaveQuantizedOptions, saveQuantized } from './auto/save-quantized.ts';
export type { WeightPages } from './auto/weight-pages.ts';
export type { DType, WeightDType } from './dtype.ts';
export type { TuningProgress } from './engine/tuning/measure.ts';
export type { BuiltInBackend, RecordableBackend, TuningEntry, TuningTable } from './engine/tuning/policy.ts';
export type { ErrorCode } from './errors.ts';
export {
  AbortError,
  CheckpointError,
  ConfigError,
  EngineError,
  ExpertsError,
  HubError,
  InputError,
  SwitchyardError,
  TokenizerError,
} from './errors.ts';
export type { ExpertsBackend, ExpertsContext, ExpertsInputs, ExpertsWeights } from './experts/interface.ts';
export type { ExpertsRegistry } from './experts/registry.ts';
export { ExpertsInterface } from './experts/registry.ts';
export type { AnswerOptions, ResponseFormat, ToolChoice } from './generation/answer-options.ts';
export type { ConstraintFactory, TokenConstraint } from './generation/constraint.ts';
export type { GenerateOptions } from './generation/generate-options.ts';
export type { GenerationStream } from './generation/generation-stream.ts';
export type { TokenLogprob, TokenLogprobs } from './generation/logprobs.ts';
export type {
  FinishReason,
  GenerateOutput,
  GenerateStats,
  PartialOutput,
} from './generation/output.ts';
export { GenerationAbortError } from './generation/output.ts';
export type {
  GenerationParameters,
  LogitsProcessor,
  PrefixAllowedTokensFn,
} from './generation/parameters.ts';
export type { TokenRows } from './generation/prompt.ts';
export type { StoppingCriterion } from './generation/stopping-criteria.ts';
export type { DecodingStreamer, Streamer, TextStreamerOptions } from './generation/streamers.ts';
export { TextIteratorStreamer, TextStreamer } from './generation/streamers.ts';
export type { RowRouting } from './generation/types.ts';
export { float } from './graph/graph.ts';
export type { GraphBuilder as Graph, OpOptions, Value } from './graph/graph-builder.ts';
export type { Attribute, FloatAttribute } from './graph/parts.ts';
export type { HubOptions, ProgressEvent, Repo as ResolvedRepo, RepoFile, RepoOptions } from './hub/types.ts';
export type {
  Grid,
  ImageInput,
  ImageLimits,
  LoadOptions as ImageLoadOptions,
  PixelValues,
  RawPixels,
  RawSound,
  SoundConfig,
  SoundInput,
  SoundValues,
  VideoInput,
} from './media/types.ts';
export { Cache } from './model/cache.ts';
export type { BaseModelOutput } from './model/causal-lm.ts';
export { BaseModel, CausalLM } from './model/causal-lm.ts';
export type {
  Chat,
  ChatInput,
  ChatOptions,
  ChatReply,
  ChatStream,
  ReplyOptions,
} from './model/chat.ts';
export type { CompileMode, CompileOptions, MeasureOptions, Tuning } from './model/compile.ts';
export type { ForwardInputs, Intermediates } from './model/forward.ts';
export type { CausalLMGenerateOptions } from './model/generate-options.ts';
export type { CausalLMOutput, ExecutionStats } from './model/generative-model.ts';
export { GenerativeModel } from './model/generative-model.ts';
export type {
  ImageTextForwardInputs,
  ImageTextGenerateOptions,
  VisualInputs,
} from './model/image-text-to-text.ts';
export { ImageTextToText } from './model/image-text-to-text.ts';
export type { PinnedExpertsStats } from './model/model-parts.ts';
export type {
  ExpertsImplementation,
  ExpertsName,
  RoutedTokens,
  RoutingOptions,
} from './model/pretrained-model.ts';
export { PreTrainedModel } from './model/pretrained-model.ts';
export type { PromptLogprobsInputs } from './model/prompt-logprobs.ts';
export type { PromptOptions } from './model/prompt-options.ts';
export type { ProcessorMessage } from './processor/messages.ts';
export type { PatchRule } from './processor/patches.ts';
export type { PixelBounds } from './processor/pixel-bounds.ts';
export type {
  OneOrMore,
  Processor,
  ProcessorCall,
  ProcessorChatOptions,
  ProcessorInputs,
  ProcessorOutput,
  ProcessorTokenizer,
} from './processor/processor.ts';
export type { ImageConfig, ProcessorConfig, VideoConfig } from './processor/processor-config.ts';
export type { Quantization, QuantizationSpec, WeightFormat } from './quantize/scheme.ts';
export { parseQuantization } from './quantize/scheme.ts';
export type {
  RecordRoutingOptions,
  RoutingFile,
  RoutingFileHeader,
  RoutingRecorder,
  RoutingSource,
} from './routing/file.ts';
export { readRoutingFile, recordRouting } from './routing/file.ts';
export type { RoutingHeader, RoutingListener, RoutingRecord } from './routing/record.ts';
export { NOT_ROUTED } from './routing/record.ts';
export type { Device } from './runtime/choose-device.ts';
export { Tensor, type TensorConstructor, type TensorData } from './runtime/ort.ts';
export type { ResidencyStats } from './runtime/residency.ts';
export type { ChatMessage, ContentPart } from './tokenizer/conversation.ts';
export type { Detokenizer } from './tokenizer/detokenizer.ts';
export type { ResponseDelta } from './tokenizer/response/events.ts';
export type {
  ParsedResponse,
  ParseResponseOptions,
  ResponseParser,
  ToolCall,
} from './tokenizer/response/parser.ts';
export type {
  ChatTemplateOptions,
  DecodeOptions,
  EncodeOptions,
  TokenizedBatch,
  TokenizeOptions,
  Tokenizer,
  TokenizerCall,
} from './tokenizer/tokenizer.ts';

requireNode(process.versions.node);
