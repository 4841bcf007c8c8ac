#!/usr/bin/env python3
"""Runs a checkpoint with Hugging Face transformers and writes what comes of it, for `switchyard verify --reference`.

    python scripts/reference.py ./model reference.json
    npx moe-switchyard verify ./model --reference reference.json

Needs torch and transformers 5; everything is computed in float32 on the CPU. The file is JSON in the format of Switchyard's certificates:
prompts, logits of 64 ids spread over the vocabulary, log-sum-exp and argmax at each position, the experts that each router chose and by
how much, greedy continuations, and the SHA-256 of the files of weights.
"""

import argparse
import hashlib
import json
from pathlib import Path

PROMPT_LENGTHS = (1, 16, 41)
SAMPLED_IDS = 64
NEW_TOKENS = 8


def fixed_prompts(vocab_size):
    """The same prompts as in src/certify/run.ts."""
    state = 1
    prompts = []
    for length in PROMPT_LENGTHS:
        prompt = []
        for _ in range(length):
            state = state * 48271 % 0x7FFFFFFF
            prompt.append(state % max(1, vocab_size // 2))
        prompts.append(prompt)
    return prompts


def sampled_ids(vocab_size):
    count = min(SAMPLED_IDS, vocab_size)
    return [i * vocab_size // count for i in range(count)]


def rounded(tensor):
    return [float(f"{value:.8g}") for value in tensor.flatten().tolist()]


def file_sum(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def run_prompt(model, prompt, text_config, torch):
    ids = torch.tensor([prompt])
    routed = getattr(text_config, "num_experts", 0) or 0
    with torch.no_grad():
        # A router is asked directly: what outputs hold of it is not the same in all families.
        scores, hooks = [], []
        if routed:
            for module in model.modules():
                weight = getattr(module, "weight", None)
                is_router = type(module).__name__.endswith("Router") or type(module) is torch.nn.Linear
                if is_router and weight is not None and tuple(weight.shape) == (routed, text_config.hidden_size):
                    hooks.append(module.register_forward_pre_hook(
                        lambda module, args: scores.append(args[0].reshape(-1, text_config.hidden_size) @ module.weight.T)
                    ))
        logits = model(input_ids=ids).logits[0]
        for hook in hooks:
            hook.remove()
        greedy = list(prompt)
        for _ in range(NEW_TOKENS):
            greedy.append(int(model(input_ids=torch.tensor([greedy])).logits[0, -1].argmax()))
    chosen, margins = [], []
    for layer in scores:
        k = text_config.num_experts_per_tok
        values, indices = layer.topk(min(k + 1, routed), dim=-1)
        chosen.append([sorted(row[:k].tolist()) for row in indices])
        margins.append(rounded(values[:, k - 1] - values[:, k]) if k < routed else [1e30] * len(prompt))
    return {
        "logits": [rounded(row[sampled_ids(len(row))]) for row in logits],
        "logsumexp": rounded(logits.logsumexp(-1)),
        "argmax": logits.argmax(-1).tolist(),
        "experts": chosen,
        "margins": margins,
        "greedy": greedy[len(prompt):],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a folder, or a repo on the Hub")
    parser.add_argument("output", help="the JSON file to write")
    parser.add_argument("--layers", type=int, help="run only the first layers; give the same to switchyard verify")
    options = parser.parse_args()

    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(options.model)
    text_config = config.get_text_config()
    if options.layers:
        text_config.num_hidden_layers = options.layers
        if getattr(text_config, "layer_types", None):
            text_config.layer_types = text_config.layer_types[: options.layers]
    sees = hasattr(config, "vision_config")
    auto = transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
    model = auto.from_pretrained(options.model, config=config, dtype=torch.float32).eval()
    prompts = fixed_prompts(text_config.vocab_size)
    folder = Path(options.model)
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    reference = {
        "format": "switchyard-certificate",
        "version": 1,
        "model": options.model,
        **({"layers": options.layers} if options.layers else {}),
        "prompts": prompts,
        "runs": [{
            "name": f"transformers {transformers.__version__}",
            "prompts": [run_prompt(model, prompt, text_config, torch) for prompt in prompts],
        }],
        "checksums": {"files": {path.name: file_sum(path) for path in files}},
        "made": {"transformers": transformers.__version__, "torch": torch.__version__, "dtype": "float32"},
    }
    Path(options.output).write_text(json.dumps(reference) + "\n")


if __name__ == "__main__":
    main()
