"""Random codes in published formats, for make_checkpoint.py: what a module is stored as, and what config.json says of it.

Codes are uniform, and scales near what gives the weights a deviation of 0.02.
"""
import torch

GROUP = {"int4": 32, "gptq": 128}
DEVIATION = 0.02


def words(generator, *shape):
    """32-bit words of random bits."""
    low, high = torch.iinfo(torch.int32).min, torch.iinfo(torch.int32).max
    return torch.randint(low, high, shape, generator=generator, dtype=torch.int32)


def scales(generator, deviation_of_codes, dtype, *shape):
    spread = 0.75 + 0.5 * torch.rand(*shape, generator=generator)
    return (spread * (DEVIATION / deviation_of_codes)).to(dtype)


def int4(generator, outputs, inputs):
    """compressed-tensors pack-quantized: 8 codes a word along the inputs, a scale for 32 of them."""
    return {
        "weight_packed": words(generator, outputs, inputs // 8),
        "weight_scale": scales(generator, 4.6, torch.bfloat16, outputs, inputs // GROUP["int4"]),
        "weight_shape": torch.tensor([outputs, inputs]),
    }


def gptq(generator, outputs, inputs):
    """GPTQ, symmetric: 8 codes a word along the inputs, words of neighbouring outputs side by side, a scale for 128 inputs."""
    groups = inputs // GROUP["gptq"]
    return {
        "qweight": words(generator, inputs // 8, outputs),
        "qzeros": torch.full((groups, outputs // 8), 0x77777777, dtype=torch.int32),
        "scales": scales(generator, 4.6, torch.float16, groups, outputs),
        "g_idx": torch.arange(inputs, dtype=torch.int32) // GROUP["gptq"],
    }


def fp8(generator, outputs, inputs):
    """Qwen's FP8: e4m3 with a scale for blocks of 128 x 128."""
    weight = torch.randn(outputs, inputs, generator=generator).to(torch.float8_e4m3fn)
    blocks = [-(-size // 128) for size in (outputs, inputs)]
    return {"weight": weight, "weight_scale_inv": scales(generator, 1.0, torch.bfloat16, *blocks)}


def compressed_tensors_config():
    weights = dict(num_bits=4, type="int", symmetric=True, strategy="group", group_size=GROUP["int4"])
    return dict(quant_method="compressed-tensors", format="pack-quantized", quantization_status="compressed",
                config_groups=dict(group_0=dict(targets=["Linear"], weights=weights)),
                ignore=["lm_head", "re:.*mlp.gate$", "re:.*shared_expert_gate$"])


FORMATS = {
    "int4": (int4, compressed_tensors_config),
    "gptq": (gptq, lambda: dict(quant_method="gptq", bits=4, group_size=GROUP["gptq"], sym=True, desc_act=False,
                                checkpoint_format="gptq")),
    "fp8": (fp8, lambda: dict(quant_method="fp8", fmt="e4m3", activation_scheme="dynamic",
                              weight_block_size=[128, 128])),
}
