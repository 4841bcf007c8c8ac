// Measures a session in a process of its own, so that a crash ends nothing else; prints a part a line. See session.mjs.

import { bytesPerDecodedToken, weightWork } from '../../dist/bench/work.js';
import { resolveRepo } from '../../dist/hub/resolve-repo.js';
import { AutoConfig, AutoModelForCausalLM } from '../../dist/index.js';
import { Device, listDevices } from '../../dist/runtime/device.js';
import { openCheckpoint } from '../../dist/safetensors/checkpoint.js';
import { print, readJob } from '../compare/job.mjs';
import { measureSession } from './session.mjs';

async function bytesPerToken(source) {
  const { architecture, parsed } = await AutoConfig.fromPretrained(source);
  const { tensors } = await openCheckpoint(await resolveRepo(source, {}));
  return bytesPerDecodedToken(weightWork(tensors.values(), architecture.text(parsed)));
}

await measureSession({ AutoModelForCausalLM, Device, listDevices, bytesPerToken }, readJob(), print);
