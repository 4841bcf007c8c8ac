"""Times transformers; see job.mjs. Named so that it does not hide the package."""
import json
import re
import sys
import time
from pathlib import Path
from statistics import median

JOB = json.loads(sys.argv[1])
SHORT_PROMPT = 16
BATCHED_LIMIT = 128

import torch  # noqa: E402
import transformers  # noqa: E402

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(JOB["threads"])
DTYPE = getattr(torch, JOB["dtype"])
VERSION = f"transformers {transformers.__version__} (torch {torch.__version__})"


def token_ids(count, seed, vocab):
    return torch.tensor([[(i * 6007 + seed * 1013 + 17) % vocab for i in range(count)]])


def seconds(repeats, work):
    times = []
    for run in range(repeats):
        started = time.perf_counter()
        work(run)
        times.append(time.perf_counter() - started)
    return median(times)


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


def time_backend(model, name):
    vocab = model.config.vocab_size
    model.set_experts_implementation(name)
    lengths = [n for n in JOB["prompts"] if name != "batched_mm" or n <= BATCHED_LIMIT]
    generate(model, token_ids(max([SHORT_PROMPT, *lengths]), 99, vocab), 2)
    prefill = {n: seconds(JOB["repeats"], lambda run, n=n: generate(model, token_ids(n, run, vocab), 1)) for n in lengths}
    tokens, moments = generate(model, token_ids(SHORT_PROMPT, 50, vocab), JOB["newTokens"] + 1)
    decode = median(b - a for a, b in zip(moments, moments[1:]))
    return dict(name=name, prefill=prefill, decode=decode, tokens=tokens)


def text():
    model, load_seconds = load()
    backends, used = [], None
    for name in JOB["backends"]:
        backends.append(time_backend(model, name))
        used = used or memory()
    return dict(load=load_seconds, version=VERSION, backends=backends, memory=used)


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
    elapsed = seconds(JOB["repeats"], lambda _: tower(pixels, grid))
    return dict(load=load_seconds, version=VERSION, seconds=elapsed, norm=norm)


with torch.no_grad():
    result = dict(text=text, first=first, vision=vision)[JOB["task"]]()
if result:
    print("\n" + json.dumps(result))
