"""Times transformers; see job.mjs. Named so that it does not hide the package."""
import json
import re
import sys
import time
from pathlib import Path
from statistics import median

JOB = json.loads(sys.argv[1])
SHORT_PROMPT = 16

import torch  # noqa: E402
import transformers  # noqa: E402

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(JOB["threads"])
DTYPE = getattr(torch, JOB["dtype"])
DEVICE = JOB["device"]
VERSION = f"transformers {transformers.__version__} (torch {torch.__version__})"


def token_ids(count, seed, vocab):
    return torch.tensor([[(i * 6007 + seed * 1013 + 17) % vocab for i in range(count)]], device=DEVICE)


def say(result):
    print("\n" + json.dumps(result), flush=True)


def seconds(work):
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def memory():
    """Bytes written by this process, and resident pages of files."""
    try:
        rollup = Path("/proc/self/smaps_rollup").read_text()
    except OSError:
        return dict(own=0, mapped=0)
    field = lambda name: 1024 * int(re.search(rf"^{name}:\s+(\d+)", rollup, re.M)[1])  # noqa: E731
    return dict(own=field("Private_Dirty"), mapped=field("Rss") - field("Anonymous"))


def load():
    started = time.perf_counter()
    model = transformers.AutoModelForCausalLM.from_pretrained(JOB["model"], dtype=DTYPE, local_files_only=True)
    model = model.to(DEVICE)
    if DEVICE != "cpu":
        torch.cuda.synchronize()
    return model.eval(), time.perf_counter() - started


def generate(model, prompt, count):
    """Greedy: the tokens, and the moments they came."""
    tokens, moments, cache = [], [], None
    step = prompt
    for _ in range(count):
        output = model(step, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = output.past_key_values
        step = output.logits[:, -1:].argmax(-1)
        tokens.append(step.item())
        moments.append(time.perf_counter())
    return tokens, moments


def answer(model, request):
    vocab = model.config.vocab_size
    model.set_experts_implementation(request["backend"])
    if "prefill" in request:
        ids = token_ids(request["prefill"], request["run"], vocab)
        return dict(seconds=seconds(lambda: generate(model, ids, 1)))
    tokens, moments = generate(model, token_ids(SHORT_PROMPT, 50, vocab), request["decode"] + 1)
    return dict(seconds=median(b - a for a, b in zip(moments, moments[1:])), tokens=tokens)


def serve():
    model, load_seconds = load()
    for backend in ("grouped_mm", "eager") if DEVICE == "cpu" else ("grouped_mm", "eager", "batched_mm"):
        model.set_experts_implementation(backend)
        # batched_mm copies the weights of every token's experts.
        longest = SHORT_PROMPT if backend == "batched_mm" else max([SHORT_PROMPT, *JOB["prompts"]])
        generate(model, token_ids(longest, 99, model.config.vocab_size), 2)
    say(dict(load=load_seconds, version=VERSION, memory=memory()))
    for line in sys.stdin:
        say(answer(model, json.loads(line)))


def first():
    model, _ = load()
    tokens, _ = generate(model, token_ids(SHORT_PROMPT, 50, model.config.vocab_size), 1)
    print(tokens[0], flush=True)


def vision_weights():
    from safetensors import safe_open

    folder, prefix, weights = Path(JOB["model"]), "model.visual.", {}
    for shard in sorted(folder.glob("*.safetensors")):
        with safe_open(shard, "pt") as file:
            weights |= {name[len(prefix):]: file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}
    return weights


def vision():
    from transformers.models.qwen3_vl_moe.modeling_qwen3_vl_moe import Qwen3VLMoeVisionModel

    started = time.perf_counter()
    config = transformers.AutoConfig.from_pretrained(JOB["model"], local_files_only=True).vision_config
    tower = Qwen3VLMoeVisionModel._from_config(config, dtype=DTYPE, attn_implementation="sdpa").eval()
    tower.load_state_dict(vision_weights())
    load_seconds = time.perf_counter() - started
    frames, height, width = JOB["grid"]
    values = config.in_channels * config.temporal_patch_size * config.patch_size**2
    index = torch.arange(frames * height * width * values)
    pixels = ((index * 7) % 256 / 128 - 1).reshape(-1, values).to(DTYPE)
    grid = torch.tensor([JOB["grid"]])
    norm = tower(pixels, grid).pooler_output.float().norm().item()
    elapsed = median(seconds(lambda: tower(pixels, grid)) for _ in range(JOB["repeats"]))
    return dict(load=load_seconds, version=VERSION, seconds=elapsed, norm=norm)


with torch.no_grad():
    result = dict(serve=serve, first=first, vision=vision)[JOB["task"]]()
if result:
    say(result)
