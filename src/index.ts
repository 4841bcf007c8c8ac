export {
  AutoConfig,
  AutoModel,
  AutoModelForCausalLM,
  AutoModelForImageTextToText,
  AutoTokenizer,
} from './auto/auto-classes.ts';
export { AutoProcessor } from './auto/auto-processor.ts';
export type {
  BaseModelOutput,
  CausalLMGenerateOptions,
  CausalLMOutput,
  ExecutionStats,
} from './auto/causal-lm.ts';
export { BaseModel, CausalLM } from './auto/causal-lm.ts';
export type { CompileMode, CompileOptions, Tuning } from './auto/compile.ts';
export type { Device } from './auto/device.ts';
export type { ForwardInputs, Intermediates } from './auto/forward.ts';
export type { ImageTextForwardInputs, ImageTextGenerateOptions, VisualInputs } from './auto/image-text.ts';
export { ImageTextToText } from './auto/image-text.ts';
export type { ConfigOverride, LoadedConfig } from './auto/load-config.ts';
export type { LoadOptions } from './auto/load-model.ts';
export type { ExpertsImplementation } from './auto/model.ts';
export { PreTrainedModel } from './auto/model.ts';
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
  GenerateOptions,
  GenerateOutput,
  GenerateStats,
  PartialOutput,
} from './generation/generate.ts';
export { GenerationAbortError } from './generation/generate.ts';
export type { Streamer, TextStreamerOptions } from './generation/streamers.ts';
export { TextIteratorStreamer, TextStreamer } from './generation/streamers.ts';
export type { Attribute, Dimension, Value } from './graph/graph.ts';
export { float, Graph } from './graph/graph.ts';
export type { DType } from './graph/precision.ts';
export type { HubOptions, ProgressEvent } from './hub/types.ts';
export type { Processor, ProcessorOutput } from './processor/processor.ts';
export type { Grid, ImageInput, VideoInput } from './processor/types.ts';
export { Tensor } from './runtime/ort.ts';
export type { Tokenizer } from './tokenizer/tokenizer.ts';
