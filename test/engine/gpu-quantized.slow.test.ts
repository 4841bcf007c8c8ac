import { QUANTIZED_MODELS, testQuantizedOnGpu } from './gpu-quantized.ts';

testQuantizedOnGpu(QUANTIZED_MODELS);
