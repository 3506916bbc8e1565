"""Write the golden files: tiny random checkpoints, and what the reference implementations compute.

Needs PyTorch and transformers; the files are committed, so run it only to add or change a case:

    python tools/make_goldens.py tests/data [CASE ...]

Each case is a directory as transformers saves one (`config.json` and weights, no `preprocessor_config.json`)
with `golden.npz` beside it, float32 but for the input and the row numbers:

    pixel_values  (1, T, C, H, W)         what the model is fed, float16
    rows          (kept,)                 tokens that are kept below
    tokens        (kept, hidden)          embedded tubelets (and CLS, first), positions added
    blocks        (depth, kept, hidden)   output of each block, those of a pooler behind
    embedding     (hidden,)               what the classifier's linear layer reads
    logits        (classes,)

The reference runs in float64, on weights that were rounded to the type that the case is stored in.
"""

import argparse
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from golden_cases import CASES, Case

# Name of a tensor in transformers -> in the original implementation.
ORIGINAL_NAMES = {
    "VideoMAE": (
        (r"^videomae\.embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^videomae\.encoder\.layer\.", "blocks."),
        (r"\.attention\.output\.dense\.", ".attn.proj."),
        (r"\.attention\.attention\.query\.bias$", ".attn.q_bias"),
        (r"\.attention\.attention\.value\.bias$", ".attn.v_bias"),
        (r"\.attention\.attention\.", ".attn."),
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"\.output\.dense\.", ".mlp.fc2."),
        (r"^classifier\.", "head."),
    ),
    "Timesformer": (
        (r"^timesformer\.embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^timesformer\.embeddings\.position_embeddings", "pos_embed"),
        (r"^timesformer\.embeddings\.time_embeddings", "time_embed"),
        (r"^timesformer\.embeddings\.", ""),
        (r"^timesformer\.layernorm\.", "norm."),
        (r"^timesformer\.encoder\.layer\.", "blocks."),
        (r"\.temporal_attention\.output\.dense\.", ".temporal_attn.proj."),
        (r"\.temporal_attention\.attention\.", ".temporal_attn."),
        (r"\.temporal_dense\.", ".temporal_fc."),
        (r"\.temporal_layernorm\.", ".temporal_norm1."),
        (r"\.attention\.output\.dense\.", ".attn.proj."),
        (r"\.attention\.attention\.", ".attn."),
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"\.output\.dense\.", ".mlp.fc2."),
        (r"^classifier\.", "head."),
    ),
}
# What the original implementation's scripts put around the weights.
WRAPPERS = {"VideoMAE": "model", "Timesformer": "model_state"}
# Its files' suffixes.
SUFFIXES = {"VideoMAE": ".pth", "Timesformer": ".pyth"}


def make_model(name: str, fields: dict[str, Any]) -> Any:
    """Make a random classifier of transformers: `name` is what its classes start with."""
    config = getattr(transformers, f"{name}Config")(**fields)
    return getattr(transformers, f"{name}ForVideoClassification")(config).eval()


def randomise(model: Any, generator: torch.Generator) -> None:
    """Draw every parameter so that each shows in the logits, also those that transformers sets to zero.

    A layer's outputs have about the variance of its inputs; queries and keys have more, so that attention
    prefers some tokens to others; layer norms are unlike one.
    """
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if name.endswith("weight") and parameter.ndim > 1:
            values /= math.sqrt(parameter[0].numel())
            if any(part in name for part in ("q_proj", "k_proj", "query", "key")):
                values *= 1.5
            elif "qkv" in name:
                values[: 2 * len(values) // 3] *= 1.5
        elif name.endswith("weight"):
            values = 1 + 0.3 * values
        else:
            values *= 0.5 if parameter.ndim > 1 else 0.2
        parameter.data.copy_(values)


def original_state(model: Any, name: str) -> dict[str, torch.Tensor]:
    """Return the weights as the original implementation names and fuses them."""
    state = {}
    for key, values in model.state_dict().items():
        for pattern, replacement in ORIGINAL_NAMES[name]:
            key = re.sub(pattern, replacement, key)
        state[key] = values
    for i in range(model.config.num_hidden_layers):
        parts = [f"blocks.{i}.attn.{part}.weight" for part in ("query", "key", "value")]
        if parts[0] in state:
            state[f"blocks.{i}.attn.qkv.weight"] = torch.cat([state.pop(part) for part in parts])
    return state


def clip_shape(config: Any) -> tuple[int, int, int, int]:
    """(T, C, H, W) of a clip: V-JEPA 2 has names of its own."""
    if config.model_type == "vjepa2":
        return config.frames_per_clip, config.in_chans, config.crop_size, config.crop_size
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return config.num_frames, config.num_channels, height, width


def our_order(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Tokens as our models have them: TimeSformer's frame by frame, under divided attention behind CLS."""
    kind = getattr(model.config, "attention_type", None)
    if kind not in ("divided_space_time", "joint_space_time"):
        return tokens.flatten(0, -2)
    frames = model.config.num_frames
    cls_token, patches = tokens[:, :1], tokens[0, 1:]
    patches = patches.unflatten(0, (-1, frames)).transpose(0, 1)  # theirs: patches first, then time
    if kind == "joint_space_time":
        return torch.cat([cls_token[0], patches.flatten(0, 1)])
    return torch.cat([cls_token.expand(frames, -1, -1), patches], dim=1).flatten(0, 1)


def run(model: Any, pixel_values: torch.Tensor) -> dict[str, np.ndarray]:
    """Record what the golden file holds."""
    base = getattr(model, model.base_model_prefix)
    embeddings = base.embeddings if hasattr(base, "embeddings") else base.encoder.embeddings
    layers = list(base.layers if hasattr(base, "layers") else base.encoder.layer)
    if hasattr(model, "pooler"):
        layers += model.pooler.self_attention_layers
    seen = {}

    def keep(name: str, value: Any) -> None:
        value = value[0] if isinstance(value, tuple) else value
        seen[name] = our_order(model, value).numpy()

    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: keep(name, output))
        for name, module in [
            ("tokens", embeddings),
            *((f"block {i}", layer) for i, layer in enumerate(layers)),
        ]
    ]
    hooks.append(
        model.classifier.register_forward_pre_hook(
            lambda _, inputs: seen.update({"embedding": inputs[0].numpy()})
        )
    )
    with torch.no_grad():
        logits = model(pixel_values).logits
    for hook in hooks:
        hook.remove()
    rows = np.arange(0, len(seen["tokens"]), 7 if len(seen["tokens"]) > 100 else 1)
    return {
        "rows": rows,
        "tokens": seen["tokens"][rows],
        "blocks": np.stack([seen[f"block {i}"][rows] for i in range(len(layers))]),
        # A row for the clip, or one for each frame.
        "embedding": seen["embedding"].mean(axis=0),
        "logits": logits.numpy().mean(axis=0),
    }


def write_weights(directory: Path, model: Any, case: Case) -> None:
    """Write config.json and the weights in the case's layout."""
    model.save_pretrained(directory)
    if case.layout != "hf":
        (directory / "model.safetensors").unlink()
    if case.layout == "torch":  # the spelling in memory, in the container of older checkpoints
        torch.save(model.state_dict(), directory / "pytorch_model.bin")
    elif case.layout == "original":
        prefix = "module." if case.model == "VideoMAE" else "model."
        state = {prefix + key: values for key, values in original_state(model, case.model).items()}
        beside = {"epoch": 3, "args": argparse.Namespace(lr=1e-3, model="tiny")}
        path = directory / f"checkpoint{SUFFIXES[case.model]}"
        torch.save({WRAPPERS[case.model]: state, **beside}, path)
    # The version of transformers would make the files of every run look different.
    config = json.loads((directory / "config.json").read_text())
    config.pop("transformers_version", None)
    (directory / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def write_case(directory: Path, case: Case, seed: int) -> None:
    """Write one case."""
    directory.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    model = make_model(case.model, case.config)
    randomise(model, generator)
    model = model.to(case.dtype)
    write_weights(directory, model, case)
    pixel_values = torch.randn((1, *clip_shape(model.config)), generator=generator).half()
    golden = run(model.double(), pixel_values.double())
    golden = {name: x.astype(np.float32) if x.dtype == np.float64 else x for name, x in golden.items()}
    np.savez_compressed(directory / "golden.npz", pixel_values=pixel_values.numpy(), **golden)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path, help="where the directories of the cases go")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="names (default: all)")
    arguments = parser.parse_args()
    for seed, (name, case) in enumerate(CASES.items()):
        if not arguments.cases or name in arguments.cases:
            write_case(arguments.directory / name, case, seed)


if __name__ == "__main__":
    main()
