export {
  AutoConfig,
  AutoModel,
  AutoModelForCausalLM,
  AutoModelForImageTextToText,
  AutoTokenizer,
} from './auto/auto-classes.ts';
export { AutoProcessor } from './auto/auto-processor.ts';
export type { ConfigOverride, PretrainedConfig } from './auto/load-config.ts';
export type { LoadOptions } from './auto/load-model.ts';
export type { DType } from './dtype.ts';
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
export { ExpertsInterface } from './experts/registry.ts';
export type {
  FinishReason,
  GenerateOutput,
  GenerateStats,
  PartialOutput,
} from './generation/generate.ts';
export { GenerationAbortError } from './generation/generate.ts';
export type { GenerateOptions } from './generation/generate-options.ts';
export type { Streamer, TextStreamerOptions } from './generation/streamers.ts';
export { TextIteratorStreamer, TextStreamer } from './generation/streamers.ts';
export type { Attribute, Dimension, Value } from './graph/graph.ts';
export { float, Graph } from './graph/graph.ts';
export type { HubOptions, ProgressEvent } from './hub/types.ts';
export type { Grid, ImageInput, VideoInput } from './media/types.ts';
export type {
  BaseModelOutput,
  CausalLMGenerateOptions,
  CausalLMOutput,
  ExecutionStats,
} from './model/causal-lm.ts';
export { BaseModel, CausalLM } from './model/causal-lm.ts';
export type { CompileMode, CompileOptions, Tuning } from './model/compile.ts';
export type { ForwardInputs, Intermediates } from './model/forward.ts';
export type {
  ImageTextForwardInputs,
  ImageTextGenerateOptions,
  VisualInputs,
} from './model/image-text-to-text.ts';
export { ImageTextToText } from './model/image-text-to-text.ts';
export type { ExpertsImplementation } from './model/pretrained-model.ts';
export { PreTrainedModel } from './model/pretrained-model.ts';
export type { Processor, ProcessorOutput } from './models/qwen3_vl_moe/processor.ts';
export type { Device } from './runtime/choose-device.ts';
export { Tensor } from './runtime/ort.ts';
export type { Tokenizer } from './tokenizer/tokenizer.ts';
