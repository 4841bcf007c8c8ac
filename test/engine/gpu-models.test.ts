import { testGpuModels } from './gpu-models.ts';

testGpuModels(['qwen3_moe_d']);
