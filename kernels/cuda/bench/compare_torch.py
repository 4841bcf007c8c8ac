"""Times what the bench program's backends stand beside, on the same card and shapes.

Run with a Python that has torch (CUDA) and, for the experts functions, transformers:

    python kernels/cuda/bench/compare_torch.py [--model qwen2|qwen3] [--tokens 1,16,4096] [--milliseconds 200]

Per shape it times torch.bmm over gathered expert weights, torch.nn.functional.grouped_mm over sorted rows (the three bare
products, without routing, activation or sum) and transformers' eager, batched_mm and grouped_mm experts: median of event times
in microseconds over rotating inputs, after warm-up. bfloat16, uniform routing, weights [E, 2I, H] and [E, H, I].
"""

import argparse
import statistics
import sys

import torch

MODELS = {"qwen2": (60, 4, 2048, 1408), "qwen3": (128, 8, 2048, 768)}
TOKENS = [1, 2, 4, 16, 64, 256, 1024, 4096, 8192]
INPUT_SETS = 4
budget_ms = 200.0  # of one measurement
MOST_GATHERED_BYTES = 24 << 30  # bmm and batched_mm copy the weights of every pair


def median_us(call):
    """Median time of call(i) in microseconds; i counts on so that inputs can rotate."""
    for i in range(5):
        call(i)
    torch.cuda.synchronize()

    def once(i):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call(i)
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)

    runs = min(101, max(11, int(budget_ms / max(once(0), 1e-3))))
    return 1e3 * statistics.median(once(i) for i in range(runs))


def make_inputs(experts, top_k, hidden, tokens):
    """Inputs of one call: x [tokens, hidden], indices and weights [tokens, top_k]."""
    x = torch.rand(tokens, hidden, device="cuda", dtype=torch.bfloat16) * 2 - 1
    indices = torch.rand(tokens, experts, device="cuda").topk(top_k, dim=-1).indices
    weights = torch.rand(tokens, top_k, device="cuda", dtype=torch.bfloat16) * 0.25 + 0.05
    return x, indices, weights


def time_bmm(gate_up, down, inputs):
    """The products of batched_mm alone: gather every pair's weights, then two torch.bmm."""

    def call(i):
        x, indices, _ = inputs[i % len(inputs)]
        pairs = indices.reshape(-1)
        rows = x.repeat_interleave(indices.shape[-1], dim=0).unsqueeze(-1)
        gate, up = torch.bmm(gate_up[pairs], rows).chunk(2, dim=1)
        torch.bmm(down[pairs], gate * up)

    return median_us(call)


def time_grouped_mm(gate_up, down, inputs):
    """The products of grouped_mm alone, on rows that are sorted beforehand."""
    # Older releases have it under its private name, the oldest not at all.
    grouped_mm = getattr(torch.nn.functional, "grouped_mm", None) or torch._grouped_mm
    prepared = []
    for x, indices, _ in inputs:
        experts, order = indices.reshape(-1).sort(stable=True)
        counts = torch.bincount(experts, minlength=gate_up.shape[0])
        prepared.append((x[order // indices.shape[-1]], counts.cumsum(0).to(torch.int32)))

    def call(i):
        rows, ends = prepared[i % len(prepared)]
        both = grouped_mm(rows, gate_up.transpose(1, 2), offs=ends)
        grouped_mm(both[:, : down.shape[2]].contiguous(), down.transpose(1, 2), offs=ends)

    return median_us(call)


def make_transformers_experts(experts, top_k, hidden, intermediate, gate_up, down):
    """transformers' Qwen3-MoE experts module over the given weights, or None without transformers."""
    try:
        from transformers import Qwen3MoeConfig
        from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeExperts
    except ImportError as error:
        print(f"transformers' experts left out: {error}")
        return None
    config = Qwen3MoeConfig(
        num_experts=experts,
        num_experts_per_tok=top_k,
        hidden_size=hidden,
        moe_intermediate_size=intermediate,
    )
    with torch.device("meta"):
        module = Qwen3MoeExperts(config)
    module.gate_up_proj = torch.nn.Parameter(gate_up, requires_grad=False)
    module.down_proj = torch.nn.Parameter(down, requires_grad=False)
    return module


def time_transformers(module, implementation, inputs):
    """One of transformers' experts implementations, whole."""
    module.config._experts_implementation = implementation

    def call(i):
        module(*inputs[i % len(inputs)])

    return median_us(call)


def time_or_none(what, timer, *arguments):
    """timer(*arguments), or None and a line on the error output where this torch or card cannot do it."""
    try:
        return timer(*arguments)
    except (AttributeError, ImportError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        lines = str(error).strip().splitlines()
        print(f"{what} left out: {type(error).__name__}: {lines[0] if lines else ''}", file=sys.stderr)
        torch.cuda.empty_cache()
        return None


@torch.inference_mode()
def run(name, token_counts):
    """Prints one table row per token count."""
    experts, top_k, hidden, intermediate = MODELS[name]
    gate_up = torch.rand(experts, 2 * intermediate, hidden, device="cuda", dtype=torch.bfloat16) * 0.1 - 0.05
    down = torch.rand(experts, hidden, intermediate, device="cuda", dtype=torch.bfloat16) * 0.1 - 0.05
    module = make_transformers_experts(experts, top_k, hidden, intermediate, gate_up, down)
    for tokens in token_counts:
        inputs = [make_inputs(experts, top_k, hidden, tokens) for _ in range(INPUT_SETS)]
        gathered = tokens * top_k * 3 * hidden * intermediate * 2
        fits = gathered <= MOST_GATHERED_BYTES
        times = [
            time_or_none("torch.bmm", time_bmm, gate_up, down, inputs) if fits else None,
            time_or_none("torch grouped_mm", time_grouped_mm, gate_up, down, inputs),
        ]
        for implementation in ("eager", "batched_mm", "grouped_mm"):
            possible = module is not None and (fits or implementation != "batched_mm")
            what = f"transformers' {implementation}"
            time = time_or_none(what, time_transformers, module, implementation, inputs) if possible else None
            times.append(time)
        cells = " | ".join("-" if time is None else f"{time:.1f}" for time in times)
        print(f"| {name} | {tokens} | {cells} |", flush=True)


def main():
    """Parses the command line and prints versions and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=sorted(MODELS))
    parser.add_argument("--tokens", type=lambda text: [int(part) for part in text.split(",")], default=TOKENS)
    parser.add_argument("--milliseconds", type=int, default=200)
    arguments = parser.parse_args()
    global budget_ms
    budget_ms = arguments.milliseconds
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}\n")
    print("| model | tokens | torch.bmm | torch grouped_mm | eager | batched_mm | grouped_mm |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in [arguments.model] if arguments.model else MODELS:
        run(name, arguments.tokens)


if __name__ == "__main__":
    main()
