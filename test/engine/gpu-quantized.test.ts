import { testQuantizedOnGpu } from './gpu-quantized.ts';

testQuantizedOnGpu(['qwen3_moe_ct_w4a16']);
