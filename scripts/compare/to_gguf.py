"""Writes a bf16 Qwen2-MoE, Qwen3-MoE or Qwen3-Next checkpoint as GGUF, so that llama.cpp can be timed on the same weights.

Usage: to_gguf.py MODEL OUT.gguf        (needs gguf, numpy, safetensors and torch)

The tokenizer is made up: only token ids go in and out of a timing run. One tensor is held in memory at a time.
"""
import json
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors import safe_open

ARCHITECTURES = {"qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "qwen3_next": "qwen3next"}
PROJECTIONS = ("gate", "up", "down")


class Checkpoint:
    """Tensors of a folder of safetensors shards, by name."""

    def __init__(self, folder):
        index = folder / "model.safetensors.index.json"
        if index.exists():
            self.shard_of = json.loads(index.read_text())["weight_map"]
        else:
            with safe_open(folder / "model.safetensors", "pt") as shard:
                self.shard_of = dict.fromkeys(shard.keys(), "model.safetensors")
        self.folder = folder
        self.shards = {}

    def __contains__(self, name):
        return name in self.shard_of

    def _shard(self, name):
        file = self.shard_of[name]
        if file not in self.shards:
            self.shards[file] = safe_open(self.folder / file, "pt")
        return self.shards[file]

    def shape(self, name):
        return tuple(self._shard(name).get_slice(name).get_shape())

    def read(self, name):
        return self._shard(name).get_tensor(name)


def tensor_plan(config, checkpoint):
    """Yields (GGUF name, checkpoint names, whether it is stored as fp32, what becomes of it); several names are stacked."""
    hybrid = config["model_type"] == "qwen3_next"
    # Norms of Qwen3-Next are stored less one.
    norm = (lambda weight: weight + 1) if hybrid else None
    yield "token_embd.weight", ["model.embed_tokens.weight"], False, None
    yield "output_norm.weight", ["model.norm.weight"], True, norm
    if "lm_head.weight" in checkpoint:
        yield "output.weight", ["lm_head.weight"], False, None
    for layer in range(config["num_hidden_layers"]):
        source, target = f"model.layers.{layer}.", f"blk.{layer}."
        yield target + "attn_norm.weight", [source + "input_layernorm.weight"], True, norm
        ffn_norm = "post_attention_norm" if hybrid else "ffn_norm"
        yield target + f"{ffn_norm}.weight", [source + "post_attention_layernorm.weight"], True, norm
        for letter in "qkv":
            yield target + f"attn_{letter}.weight", [source + f"self_attn.{letter}_proj.weight"], False, None
            yield target + f"attn_{letter}.bias", [source + f"self_attn.{letter}_proj.bias"], True, None
        yield target + "attn_output.weight", [source + "self_attn.o_proj.weight"], False, None
        for letter in "qk":
            yield target + f"attn_{letter}_norm.weight", [source + f"self_attn.{letter}_norm.weight"], True, norm
        yield from linear_attention_plan(config, source + "linear_attn.", target)
        yield target + "ffn_gate_inp.weight", [source + "mlp.gate.weight"], True, None
        # [1, hidden] there, [hidden] here.
        gate = [source + "mlp.shared_expert_gate.weight"]
        yield target + "ffn_gate_inp_shexp.weight", gate, True, lambda weight: weight[0]
        for part in PROJECTIONS:
            experts = [source + f"mlp.experts.{e}.{part}_proj.weight" for e in range(config["num_experts"])]
            yield target + f"ffn_{part}_exps.weight", experts, False, None
            shared = [source + f"mlp.shared_expert.{part}_proj.weight"]
            yield target + f"ffn_{part}_shexp.weight", shared, False, None


def linear_attention_plan(config, source, target):
    """A gated delta net, of which GGUF keeps the queries, keys and values apart from the gate."""
    if "linear_num_key_heads" not in config:
        return
    heads, key = config["linear_num_key_heads"], config["linear_key_head_dim"]
    value = config["linear_num_value_heads"] // heads * config["linear_value_head_dim"]

    def parts(weight):
        """Rows of q, k, v and z, which the checkpoint has head by head."""
        split = weight.unflatten(0, (heads, -1)).split([key, key, value, value], dim=1)
        return [part.flatten(0, 1) for part in split]

    projected = [source + "in_proj_qkvz.weight"]
    yield target + "attn_qkv.weight", projected, False, lambda weight: torch.cat(parts(weight)[:3])
    yield target + "attn_gate.weight", projected, False, lambda weight: parts(weight)[3]
    yield target + "ssm_ba.weight", [source + "in_proj_ba.weight"], False, None
    yield target + "ssm_conv1d.weight", [source + "conv1d.weight"], True, lambda weight: weight[:, 0]
    yield target + "ssm_dt.bias", [source + "dt_bias"], True, None
    yield target + "ssm_a", [source + "A_log"], True, lambda log: -log.float().exp()
    yield target + "ssm_norm.weight", [source + "norm.weight"], True, None
    yield target + "ssm_out.weight", [source + "out_proj.weight"], False, None


def stored_tensor(sources, checkpoint, as_float, change):
    tensors = [checkpoint.read(source) for source in sources]
    tensor = torch.stack(tensors) if len(tensors) > 1 else tensors[0]
    tensor = tensor.float() if as_float else tensor.to(torch.bfloat16)
    return (change(tensor) if change else tensor).contiguous()


def stored_shape(sources, checkpoint, change):
    shape = checkpoint.shape(sources[0])
    if change:
        shape = tuple(change(torch.empty(shape, device="meta")).shape)
    return (len(sources), *shape) if len(sources) > 1 else shape


def write_metadata(writer, config):
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_expert_count(config["num_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    if "shared_expert_intermediate_size" in config:
        writer.add_expert_shared_feed_forward_length(config["shared_expert_intermediate_size"])
    if config.get("head_dim"):
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    if config["model_type"] == "qwen3_next":
        writer.add_rope_dimension_count(int(config["head_dim"] * config["partial_rotary_factor"]))
        writer.add_ssm_conv_kernel(config["linear_conv_kernel_dim"])
        writer.add_ssm_state_size(config["linear_key_head_dim"])
        writer.add_uint32("qwen3next.ssm.group_count", config["linear_num_key_heads"])
        writer.add_ssm_time_step_rank(config["linear_num_value_heads"])
        writer.add_ssm_inner_size(config["linear_value_head_dim"] * config["linear_num_value_heads"])
    vocab = config["vocab_size"]
    writer.add_vocab_size(vocab)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([f"token{i}" for i in range(vocab)])
    writer.add_token_types([gguf.TokenType.NORMAL] * (vocab - 1) + [gguf.TokenType.CONTROL])
    writer.add_token_merges(["t o"])
    writer.add_eos_token_id(vocab - 1)
    writer.add_add_bos_token(False)


def main():
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    config = json.loads((folder / "config.json").read_text())
    checkpoint = Checkpoint(folder)
    writer = gguf.GGUFWriter(out, ARCHITECTURES[config["model_type"]])
    write_metadata(writer, config)
    plan = [entry for entry in tensor_plan(config, checkpoint) if entry[1][0] in checkpoint]
    for name, sources, as_float, change in plan:
        shape = stored_shape(sources, checkpoint, change)
        width = 4 if as_float else 2
        kind = gguf.GGMLQuantizationType.F32 if as_float else gguf.GGMLQuantizationType.BF16
        bytes_of = int(np.prod(shape)) * width
        if as_float:
            writer.add_tensor_info(name, shape, np.dtype(np.float32), bytes_of)
        else:
            byte_shape = (*shape[:-1], shape[-1] * width)
            writer.add_tensor_info(name, byte_shape, np.dtype(np.uint8), bytes_of, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, sources, as_float, change in plan:
        tensor = stored_tensor(sources, checkpoint, as_float, change)
        writer.write_tensor_data(tensor.view(torch.uint8).numpy().reshape(-1))
    writer.close()
    print(f"{out}: {out.stat().st_size / 1e9:.2f} GB, {len(plan)} tensors")


if __name__ == "__main__":
    main()
