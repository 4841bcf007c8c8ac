import { TEXT_MODELS } from '../helpers/goldens.ts';
import { testGpuModels } from './gpu-models.ts';

// Of hybrid models one of each way to project: they take long.
testGpuModels([...TEXT_MODELS, 'qwen3_next_h', 'qwen3_5_moe_text_i', 'qwen4_exp_k']);
