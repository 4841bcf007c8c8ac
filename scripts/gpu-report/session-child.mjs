// Measures a session in a process of its own, so that a crash ends nothing else; prints a part a line. See session.mjs.

import { loadConfig } from '../../dist-scripts/auto/load-config.js';
import { bytesPerDecodedToken, weightWork } from '../../dist-scripts/bench/work.js';
import { resolveRepo } from '../../dist-scripts/hub/repo/resolve-repo.js';
import { AutoModelForCausalLM } from '../../dist-scripts/index.js';
import { Device, listDevices } from '../../dist-scripts/runtime/device.js';
import { openCheckpoint } from '../../dist-scripts/safetensors/checkpoint.js';
import { print, readJob } from '../compare/job.mjs';
import { measureSession } from './session.mjs';

async function bytesPerToken(source) {
  const repo = await resolveRepo(source, {});
  const { model } = await loadConfig(repo);
  const { tensors } = await openCheckpoint(repo);
  return bytesPerDecodedToken(weightWork(tensors.values(), model.work));
}

await measureSession({ AutoModelForCausalLM, Device, listDevices, bytesPerToken }, readJob(), print);
