import { TEXT_MODELS } from '../helpers/goldens.ts';
import { testGpuModels } from './gpu-models.ts';

testGpuModels(TEXT_MODELS);
