"""What diffusers calls the layers of models that were published under other names."""

import re
from collections.abc import Iterator

LAYERS = 2  # residual blocks of each level: Stable Diffusion 1, 2 and XL
RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
WHOLE = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
SAMPLERS = {"op": "downsamplers", "conv": "upsamplers"}
BLOCK = re.compile(r"(input|output)_blocks\.(\d{1,3})\.([012])\.(.+)|middle_block\.([012])\.(.+)")

PUBLISHED = {ours: theirs for theirs, ours in {**WHOLE, **RESIDUAL}.items()}
LEVEL = re.compile(
    r"(?P<side>down|up)_blocks\.(?P<level>\d{1,2})\.(?P<kind>resnets|attentions|\w+samplers)\."
    r"(?P<layer>\d)\.(?P<rest>.+)|mid_block\.(?P<middle>resnets|attentions)\.(?P<place>\d)\."
    r"(?P<inner>.+)"
)

FLUX = {
    "double_blocks.{}.img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "double_blocks.{}.txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "double_blocks.{}.img_attn.proj": ("attn.to_out.0",),
    "double_blocks.{}.txt_attn.proj": ("attn.to_add_out",),
    "double_blocks.{}.img_mlp.0": ("ff.net.0.proj",),
    "double_blocks.{}.img_mlp.2": ("ff.net.2",),
    "double_blocks.{}.txt_mlp.0": ("ff_context.net.0.proj",),
    "double_blocks.{}.txt_mlp.2": ("ff_context.net.2",),
    "double_blocks.{}.img_mod.lin": ("norm1.linear",),
    "double_blocks.{}.txt_mod.lin": ("norm1_context.linear",),
}
SINGLE = {
    "single_blocks.{}.linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "single_blocks.{}.linear2": ("proj_out",),
    "single_blocks.{}.modulation.lin": ("norm.linear",),
}
JOINT = {
    "joint_blocks.{}.x_block.attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "joint_blocks.{}.context_block.attn.qkv": FLUX["double_blocks.{}.txt_attn.qkv"],
    "joint_blocks.{}.x_block.attn.proj": ("attn.to_out.0",),
    "joint_blocks.{}.context_block.attn.proj": ("attn.to_add_out",),
    "joint_blocks.{}.x_block.mlp.fc1": ("ff.net.0.proj",),
    "joint_blocks.{}.x_block.mlp.fc2": ("ff.net.2",),
    "joint_blocks.{}.context_block.mlp.fc1": ("ff_context.net.0.proj",),
    "joint_blocks.{}.context_block.mlp.fc2": ("ff_context.net.2",),
}
STACKS = (("transformer_blocks", FLUX), ("single_transformer_blocks", SINGLE),
          ("transformer_blocks", JOINT))  # fmt: skip
NUMBERED = re.compile(r"(transformer_blocks|single_transformer_blocks)\.(\d{1,4})\.(.+)")
FUSED = {
    (stack, leaf): [
        (original, leaves)
        for own, table in STACKS
        if own == stack
        for original, leaves in table.items()
        if leaf in leaves
    ]
    for stack, table in STACKS
    for leaves in table.values()
    for leaf in leaves
}


def diffusers_module(original: str) -> str:
    """Return what diffusers calls a module of a UNet; empty where it is none.

    Args:
        original: As Stable Diffusion 1, 2 and XL were published, without the model's prefix:
            `input_blocks.1.1.transformer_blocks.0.attn1.to_q`.

    Source:
        `convert_ldm_unet_checkpoint` of diffusers.
    """
    found = BLOCK.fullmatch(original)
    if found is None or original in WHOLE:
        return WHOLE.get(original, "")
    side, number, place, rest, middle, inner = found.groups()
    if middle == "1":
        return f"mid_block.attentions.0.{inner}"
    if middle:
        return _residual(f"mid_block.resnets.{int(middle) // 2}", inner)
    level, layer = divmod(int(number) - (side == "input"), LAYERS + 1)
    stack = f"{'down' if side == 'input' else 'up'}_blocks.{level}"
    if rest in SAMPLERS:
        return f"{stack}.{SAMPLERS[rest]}.0.conv"
    if place == "0":
        return _residual(f"{stack}.resnets.{layer}", rest)
    return f"{stack}.attentions.{layer}.{rest}" if place == "1" else ""


def originals_of(module: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield what a module of diffusers was published as, or as rows of what.

    Args:
        module: As diffusers calls it: `transformer_blocks.0.attn.to_k` of Flux or Stable
            Diffusion 3, `down_blocks.0.resnets.0.conv1` of a UNet.

    Yields:
        The published name, `double_blocks.0.img_attn.qkv`, and the modules of diffusers
        whose rows lie one after another in it.
    """
    for original in _unet(module):
        yield original, (module,)
    found = NUMBERED.fullmatch(module)
    stack, number, leaf = found.groups() if found else ("", "", "")
    for original, leaves in FUSED.get((stack, leaf), ()):
        yield original.format(number), tuple(f"{stack}.{number}.{one}" for one in leaves)


def _unet(module: str) -> Iterator[str]:
    if module in PUBLISHED:
        yield PUBLISHED[module]
    found = LEVEL.fullmatch(module)
    if found is None:
        return
    if found["middle"] == "attentions":
        yield f"middle_block.1.{found['inner']}"
    elif found["middle"]:
        if found["inner"] in PUBLISHED:
            yield f"middle_block.{2 * int(found['place'])}.{PUBLISHED[found['inner']]}"
    else:
        yield from _of_level(found)


def _of_level(found: re.Match[str]) -> Iterator[str]:
    level, layer, rest = int(found["level"]), int(found["layer"]), found["rest"]
    down = found["side"] == "down"
    number = (LAYERS + 1) * level + layer + down
    block = f"{'input' if down else 'output'}_blocks.{number}"
    if found["kind"] == "attentions":
        yield f"{block}.1.{rest}"
    elif found["kind"] == "resnets":
        if rest in PUBLISHED:
            yield f"{block}.0.{PUBLISHED[rest]}"
    elif rest == "conv" and down:
        yield f"input_blocks.{number + LAYERS}.0.op"
    elif rest == "conv":  # after the attention, where the level has one
        yield from (f"output_blocks.{number + LAYERS}.{place}.conv" for place in (1, 2))


def _residual(block: str, inner: str) -> str:
    """Return the name of a layer of a residual block; empty where it has none."""
    return f"{block}.{RESIDUAL[inner]}" if inner in RESIDUAL else ""
