import { show } from '../../errors.ts';
import { readJsonFile } from '../../json.ts';

/**
 * What a repo or folder without the files of a checkpoint is, as far as its file names tell, and the way on from there; an empty
 * text where they tell nothing.
 *
 * @param open gives the path of a file of it
 */
export async function explainContents(
  names: Iterable<string>,
  open: (name: string) => Promise<string | undefined>,
): Promise<string> {
  const files = [...names];
  const first = (pattern: RegExp) => files.find((name) => pattern.test(name));
  const weights = first(/(^|\/)model(-\d+-of-\d+)?\.safetensors$/);
  if (weights !== undefined) return '';
  if (files.includes('snapshots') && files.some((name) => name === 'blobs' || name === 'refs')) {
    return 'It is a repo within a cache of the Hub. Pass its repo id, or the folder of a commit below snapshots';
  }
  const adapter = first(/(^|\/)adapter_config\.json$/);
  if (adapter !== undefined) {
    return (
      `It is an adapter (LoRA), a change to another model, ${await baseModel(adapter, open)}. Load ` +
      'that model, or merge the two with peft (merge_and_unload, then save_pretrained) and load the result'
    );
  }
  const gguf = first(/\.gguf$/i);
  if (gguf !== undefined) {
    return `It holds GGUF files (${gguf}), which are for llama.cpp. Load the repo that they were made from, which has .safetensors files`;
  }
  const pickle = first(/(^|\/)(pytorch_model.*\.bin(\.index\.json)?|.*\.(pt|pth|ckpt))$/);
  if (pickle !== undefined) {
    return (
      `Its weights are pickled (${pickle}), which can run code and is not read. Look for a branch with .safetensors files, or ` +
      'convert it: AutoModelForCausalLM.from_pretrained(…).save_pretrained(…) of transformers writes them'
    );
  }
  const onnx = first(/\.onnx(_data)?$/);
  if (onnx !== undefined)
    return `It holds an exported model (${onnx}). Load the repo that it was made from, which has .safetensors files`;
  const inside = first(/^[^/]+\/(.*\/)?config\.json$/);
  if (inside !== undefined) {
    return `It holds ${inside}; name the folder of the model within it as subfolder`;
  }
  return '';
}

/** @returns the name of the model that an adapter changes */
async function baseModel(name: string, open: (name: string) => Promise<string | undefined>): Promise<string> {
  try {
    const path = await open(name);
    const json = path === undefined ? undefined : ((await readJsonFile(path)) as Record<string, unknown>);
    const base = json?.base_model_name_or_path;
    if (typeof base === 'string') return show(base);
  } catch {
    // Only a message is at stake.
  }
  return 'which adapter_config.json names as base_model_name_or_path';
}
