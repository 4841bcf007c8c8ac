"""Writes a checkpoint of random weights with the layer shapes of a real model, laid out as on the Hub.

Usage: make_checkpoint.py OUT [--preset NAME] [--layers N] [--experts N] [--format NAME] [--seed S] [--device cuda]
(needs torch and safetensors)

Weights are bf16, normally distributed with deviation 0.02; norm weights are one, norm biases zero. A format other than
bf16 stores attention, experts and dense MLPs as random codes (random_codes.py).
"""
import argparse
import json
from pathlib import Path

import torch
from random_codes import FORMATS
from safetensors.torch import save_file

TEXT = dict(hidden_act="silu", hidden_size=2048, vocab_size=151936, rms_norm_eps=1e-6, rope_theta=1e6,
            decoder_sparse_step=1, mlp_only_layers=[], attention_dropout=0.0, initializer_range=0.02,
            output_router_logits=False, router_aux_loss_coef=0.001, use_cache=True)
QWEN15 = dict(TEXT, architectures=["Qwen2MoeForCausalLM"], model_type="qwen2_moe", intermediate_size=5632,
              moe_intermediate_size=1408, shared_expert_intermediate_size=5632, num_attention_heads=16,
              num_key_value_heads=16, num_experts=60, num_experts_per_tok=4, norm_topk_prob=False,
              max_position_embeddings=8192, tie_word_embeddings=False, use_sliding_window=False,
              bos_token_id=151643, eos_token_id=151643, torch_dtype="bfloat16")
QWEN3 = dict(TEXT, architectures=["Qwen3MoeForCausalLM"], model_type="qwen3_moe", intermediate_size=6144,
             moe_intermediate_size=768, num_attention_heads=32, num_key_value_heads=4, head_dim=128,
             num_experts=128, num_experts_per_tok=8, norm_topk_prob=True, attention_bias=False,
             max_position_embeddings=40960, tie_word_embeddings=False, use_sliding_window=False,
             bos_token_id=151643, eos_token_id=151645, torch_dtype="bfloat16")
QWEN3_NEXT = dict(TEXT, architectures=["Qwen3NextForCausalLM"], model_type="qwen3_next", intermediate_size=5120,
                  moe_intermediate_size=512, shared_expert_intermediate_size=512, num_attention_heads=16,
                  num_key_value_heads=2, head_dim=256, partial_rotary_factor=0.25, rope_theta=1e7, num_experts=512,
                  num_experts_per_tok=10, norm_topk_prob=True, max_position_embeddings=262144,
                  full_attention_interval=4, linear_num_key_heads=16, linear_num_value_heads=32,
                  linear_key_head_dim=128, linear_value_head_dim=128, linear_conv_kernel_dim=4, attention_bias=False,
                  tie_word_embeddings=False, bos_token_id=151643, eos_token_id=151645, torch_dtype="bfloat16")
VISION = dict(model_type="qwen3_vl_moe", depth=27, hidden_size=1152, hidden_act="gelu_pytorch_tanh",
              intermediate_size=4304, num_heads=16, in_channels=3, patch_size=16, spatial_merge_size=2,
              temporal_patch_size=2, out_hidden_size=2048, num_position_embeddings=2304,
              deepstack_visual_indexes=[8, 16, 24])
PRESETS = {"qwen1.5-moe-a2.7b": (QWEN15, 4), "qwen3-30b-a3b": (QWEN3, 4), "qwen3-vl-30b-a3b": (QWEN3, 2),
           "qwen3-next-80b-a3b": (QWEN3_NEXT, 4)}


class Weights:
    """Draws tensors of one shard. `code` makes the tensors of a module that is stored as codes; without it none is."""

    def __init__(self, seed, code=None, device="cpu"):
        self.generator = torch.Generator(device).manual_seed(seed)
        self.code = code
        self.shard = {}

    def matrix(self, name, *shape):
        values = torch.randn(*shape, generator=self.generator, device=self.generator.device)
        self.shard[name] = (values * 0.02).to(torch.bfloat16).cpu()

    def linear(self, prefix, outputs, inputs, bias=False, plain=False):
        if self.code is None or plain:
            self.matrix(f"{prefix}.weight", outputs, inputs)
        else:
            for part, tensor in self.code(self.generator, outputs, inputs).items():
                self.shard[f"{prefix}.{part}"] = tensor
        if bias:
            self.matrix(f"{prefix}.bias", outputs)

    def norm(self, prefix, size, bias=False):
        self.shard[f"{prefix}.weight"] = torch.ones(size, dtype=torch.bfloat16)
        if bias:
            self.shard[f"{prefix}.bias"] = torch.zeros(size, dtype=torch.bfloat16)

    def take(self):
        shard, self.shard = self.shard, {}
        return shard


def gated_mlp(weights, prefix, hidden, intermediate):
    weights.linear(f"{prefix}.gate_proj", intermediate, hidden)
    weights.linear(f"{prefix}.up_proj", intermediate, hidden)
    weights.linear(f"{prefix}.down_proj", hidden, intermediate)


def attention(weights, prefix, config):
    hidden = config["hidden_size"]
    head = config.get("head_dim", hidden // config["num_attention_heads"])
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    qwen2 = config["model_type"] == "qwen2_moe"
    gates = 2 if config["model_type"] == "qwen3_next" else 1
    for letter, size in (("q", gates * queries), ("k", keys), ("v", keys)):
        weights.linear(f"{prefix}.{letter}_proj", size, hidden, bias=qwen2)
    weights.linear(f"{prefix}.o_proj", hidden, queries)
    if not qwen2:
        for letter in "qk":
            weights.norm(f"{prefix}.{letter}_norm", head)


def gated_delta_net(weights, prefix, config):
    hidden, heads = config["hidden_size"], config["linear_num_value_heads"]
    keys = config["linear_num_key_heads"] * config["linear_key_head_dim"]
    values = heads * config["linear_value_head_dim"]
    weights.linear(f"{prefix}.in_proj_qkvz", 2 * keys + 2 * values, hidden)
    weights.linear(f"{prefix}.in_proj_ba", 2 * heads, hidden)
    weights.matrix(f"{prefix}.conv1d.weight", 2 * keys + values, 1, config["linear_conv_kernel_dim"])
    weights.matrix(f"{prefix}.A_log", heads)
    weights.matrix(f"{prefix}.dt_bias", heads)
    weights.norm(f"{prefix}.norm", config["linear_value_head_dim"])
    weights.linear(f"{prefix}.out_proj", hidden, values)


def decoder_layer(weights, prefix, config, layer, fused):
    hidden, intermediate = config["hidden_size"], config["moe_intermediate_size"]
    for norm in ("input_layernorm", "post_attention_layernorm"):
        weights.norm(f"{prefix}.{norm}", hidden)
    if (layer + 1) % config.get("full_attention_interval", 1) == 0:
        attention(weights, f"{prefix}.self_attn", config)
    else:
        gated_delta_net(weights, f"{prefix}.linear_attn", config)
    experts = config["num_experts"]
    weights.linear(f"{prefix}.mlp.gate", experts, hidden)
    if fused:
        weights.matrix(f"{prefix}.mlp.experts.gate_up_proj", experts, hidden, 2 * intermediate)
        weights.matrix(f"{prefix}.mlp.experts.down_proj", experts, intermediate, hidden)
    else:
        for expert in range(experts):
            gated_mlp(weights, f"{prefix}.mlp.experts.{expert}", hidden, intermediate)
    if "shared_expert_intermediate_size" in config:
        gated_mlp(weights, f"{prefix}.mlp.shared_expert", hidden, config["shared_expert_intermediate_size"])
        weights.linear(f"{prefix}.mlp.shared_expert_gate", 1, hidden)


def vision_tower(weights, prefix, vision):
    hidden, wide, patch = vision["hidden_size"], vision["intermediate_size"], vision["patch_size"]
    weights.matrix(f"{prefix}.patch_embed.proj.weight", hidden, vision["in_channels"],
                   vision["temporal_patch_size"], patch, patch)
    weights.matrix(f"{prefix}.patch_embed.proj.bias", hidden)
    weights.matrix(f"{prefix}.pos_embed.weight", vision["num_position_embeddings"], hidden)
    for layer in range(vision["depth"]):
        block = f"{prefix}.blocks.{layer}"
        for norm in ("norm1", "norm2"):
            weights.norm(f"{block}.{norm}", hidden, bias=True)
        weights.linear(f"{block}.attn.qkv", 3 * hidden, hidden, bias=True)
        weights.linear(f"{block}.attn.proj", hidden, hidden, bias=True)
        weights.linear(f"{block}.mlp.linear_fc1", wide, hidden, bias=True)
        weights.linear(f"{block}.mlp.linear_fc2", hidden, wide, bias=True)
    folded = hidden * vision["spatial_merge_size"] ** 2
    mergers = [(f"{prefix}.merger", hidden)]
    mergers += [(f"{prefix}.deepstack_merger_list.{i}", folded)
                for i in range(len(vision["deepstack_visual_indexes"]))]
    for merger, norm in mergers:
        weights.norm(f"{merger}.norm", norm, bias=True)
        weights.linear(f"{merger}.linear_fc1", folded, folded, bias=True)
        weights.linear(f"{merger}.linear_fc2", vision["out_hidden_size"], folded, bias=True)


def shards(config, seed, code=None, device="cpu"):
    """Yields the shards: embeddings and head, vision tower if there is one, then two layers each."""
    weights = Weights(seed, code, device)
    text, vision = config.get("text_config", config), config.get("vision_config")
    prefix = "model.language_model" if vision else "model"
    weights.matrix(f"{prefix}.embed_tokens.weight", text["vocab_size"], text["hidden_size"])
    weights.norm(f"{prefix}.norm", text["hidden_size"])
    weights.linear("lm_head", text["vocab_size"], text["hidden_size"], plain=True)
    yield weights.take()
    if vision:
        vision_tower(weights, "model.visual", vision)
        yield weights.take()
    layers = text["num_hidden_layers"]
    for first in range(0, layers, 2):
        for layer in range(first, min(first + 2, layers)):
            decoder_layer(weights, f"{prefix}.layers.{layer}", text, layer, fused=vision is not None)
        yield weights.take()


def make_config(preset, layers):
    text, default_layers = PRESETS[preset]
    text = dict(text, num_hidden_layers=layers or default_layers)
    if preset != "qwen3-vl-30b-a3b":
        return text
    rope = dict(rope_type="default", mrope_section=[24, 20, 20], mrope_interleaved=True)
    text = dict(text, model_type="qwen3_vl_moe_text", rope_scaling=rope)
    del text["architectures"]
    return dict(architectures=["Qwen3VLMoeForConditionalGeneration"], model_type="qwen3_vl_moe", text_config=text,
                vision_config=VISION, image_token_id=151655, video_token_id=151656, vision_start_token_id=151652,
                vision_end_token_id=151653, tie_word_embeddings=False, torch_dtype="bfloat16")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", default="qwen1.5-moe-a2.7b", choices=PRESETS)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--format", default="bf16", choices=["bf16", *FORMATS])
    parser.add_argument("--experts", type=int, help="of a layer, fewer than the real model's, where the disk is small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="which draws them; cuda takes seconds, and draws others")
    args = parser.parse_args()
    if args.device != "cpu" and args.format != "bf16":
        parser.error("--device is for bf16: codes are drawn on the CPU")
    config = make_config(args.preset, args.layers)
    if args.format != "bf16" and "vision_config" in config:
        parser.error("--format is for text models: those of others name and fuse their weights otherwise")
    code, settings = FORMATS.get(args.format, (None, None))
    if settings is not None:
        config["quantization_config"] = settings()
    text = config.get("text_config", config)
    if args.experts:
        text["num_experts"] = args.experts
    count = 1 + ("vision_config" in config) + (text["num_hidden_layers"] + 1) // 2
    args.out.mkdir(parents=True, exist_ok=True)
    weight_map, total = {}, 0
    for number, shard in enumerate(shards(config, args.seed, code, args.device), start=1):
        file = f"model-{number:05d}-of-{count:05d}.safetensors"
        save_file(shard, args.out / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shard, file))
        total += sum(tensor.numel() * tensor.element_size() for tensor in shard.values())
    index = dict(metadata=dict(total_size=total), weight_map=weight_map)
    (args.out / "model.safetensors.index.json").write_text(json.dumps(index))
    (args.out / "config.json").write_text(json.dumps(config, indent=2))
    generation = dict(do_sample=False, eos_token_id=text["eos_token_id"])
    (args.out / "generation_config.json").write_text(json.dumps(generation))
    print(f"{args.out}: {total / 1e9:.2f} GB in {count} shards")


if __name__ == "__main__":
    main()
