import { QUANTIZED_MODELS } from '../helpers/quantized-goldens.ts';
import { testQuantizedOnGpu } from './gpu-quantized.ts';

testQuantizedOnGpu(QUANTIZED_MODELS);
