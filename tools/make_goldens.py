"""Write the golden files: tiny random checkpoints, and what the reference implementations compute.

Needs PyTorch and transformers; the files are committed, so run it only to add or change a case:

    python tools/make_goldens.py tests/data [CASE ...]

Each case is a directory as transformers saves one (`config.json` and weights, no `preprocessor_config.json`)
with `golden.npz` beside it, float32 but for the input and the row numbers:

    pixel_values  (1, T, C, H, W)         what the model is fed, float16
    rows          (kept,)                 tokens that are kept below
    tokens        (kept, hidden)          embedded tubelets (and CLS, first), positions added
    blocks        (depth, kept, hidden)   output of each block
    embedding     (hidden,)               what the classifier's linear layer reads
    logits        (classes,)

The reference runs in float64, on weights that were rounded to the type that the case is stored in.
"""

import argparse
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import transformers

CLASSES = ("fold", "hop", "juggle", "knit", "row", "skate", "stir", "sweep", "tap", "wave", "yawn")


@dataclass(frozen=True)
class Case:
    """One golden directory.

    `layout`: as `save_pretrained` writes; the state dict in memory through `torch.save`; or with the names,
    the fused layers and the wrapping of the original implementation.
    """

    model: str
    dtype: torch.dtype
    config: dict[str, Any]
    layout: Literal["hf", "torch", "original"] = "hf"


# What each is there for stands beside it.
CASES = {
    # The published kind of model, at a hidden size that fills no whole group of 32.
    "vivit_tiny": Case(
        "Vivit",
        torch.float32,
        {
            "image_size": 16,
            "num_frames": 4,
            "tubelet_size": [2, 4, 8],
            "hidden_size": 18,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "intermediate_size": 40,
            "hidden_act": "gelu_fast",
            "id2label": dict(enumerate(CLASSES)),
        },
    ),
    # GELU with erf, no biases of q, k and v, height unlike width, a cut that leaves frames and pixels over.
    "vivit_tiny_erf": Case(
        "Vivit",
        torch.float16,
        {
            "image_size": [14, 22],
            "num_frames": 7,
            "tubelet_size": [3, 4, 6],
            "hidden_size": 30,
            "num_hidden_layers": 3,
            "num_attention_heads": 5,
            "intermediate_size": 52,
            "hidden_act": "gelu",
            "qkv_bias": False,
            "layer_norm_eps": 1e-3,
            "num_labels": 13,
        },
    ),
    # A single block and a single head, one class, an odd size; saved by torch.save.
    "vivit_tiny_torch": Case(
        "Vivit",
        torch.bfloat16,
        {
            "image_size": 17,
            "num_frames": 5,
            "tubelet_size": [2, 4, 4],
            "hidden_size": 40,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "intermediate_size": 24,
            "hidden_act": "gelu_pytorch_tanh",
            "num_labels": 1,
        },
        layout="torch",
    ),
    # More tokens than a tile has rows and a block has keys, in whole groups of 32.
    "vivit_tiny_long": Case(
        "Vivit",
        torch.float16,
        {
            "image_size": 16,
            "num_frames": 18,
            "tubelet_size": [1, 4, 4],
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "hidden_act": "gelu_fast",
            "num_labels": 20,
        },
    ),
    # VideoMAE as published, at a hidden size that fills no whole group of 32.
    "videomae_tiny": Case(
        "VideoMAE",
        torch.float32,
        {
            "image_size": 24,
            "patch_size": 8,
            "num_frames": 4,
            "hidden_size": 36,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "intermediate_size": 56,
            "id2label": dict(enumerate(CLASSES)),
        },
    ),
    # The classifier reads the first token; no biases of q and v, height unlike width, frames and pixels over.
    "videomae_tiny_first": Case(
        "VideoMAE",
        torch.float16,
        {
            "image_size": [14, 22],
            "patch_size": [4, 6],
            "num_frames": 7,
            "tubelet_size": 3,
            "hidden_size": 30,
            "num_hidden_layers": 3,
            "num_attention_heads": 5,
            "intermediate_size": 52,
            "hidden_act": "gelu_pytorch_tanh",
            "qv_bias": False,
            "layer_norm_eps": 1e-3,
            "use_mean_pooling": False,
            "num_labels": 13,
        },
    ),
    # More tokens than a block of keys has; the names, fused layers and wrapping of the original code.
    "videomae_tiny_original": Case(
        "VideoMAE",
        torch.float16,
        {
            "image_size": 28,
            "patch_size": 4,
            "num_frames": 12,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "num_labels": 20,
        },
        layout="original",
    ),
}

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
}


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


def run(model: Any, pixel_values: torch.Tensor) -> dict[str, np.ndarray]:
    """Record what the golden file holds."""
    base = getattr(model, model.base_model_prefix)
    layers = base.layers if hasattr(base, "layers") else base.encoder.layer
    seen = {}

    def keep(name: str, value: Any) -> None:
        value = value[0] if isinstance(value, tuple) else value
        seen[name] = value.flatten(0, -2).numpy()

    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: keep(name, output))
        for name, module in [
            ("tokens", base.embeddings),
            *((f"block {i}", layer) for i, layer in enumerate(layers)),
        ]
    ]
    hooks.append(
        model.classifier.register_forward_pre_hook(lambda _, inputs: keep("embedding", inputs[0][None]))
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
        "embedding": seen["embedding"][0],
        "logits": logits[0].numpy(),
    }


def write_weights(directory: Path, model: Any, case: Case) -> None:
    """Write config.json and the weights in the case's layout."""
    model.save_pretrained(directory)
    if case.layout != "hf":
        (directory / "model.safetensors").unlink()
    if case.layout == "torch":  # the spelling in memory, in the container of older checkpoints
        torch.save(model.state_dict(), directory / "pytorch_model.bin")
    elif case.layout == "original":
        state = {f"module.{key}": values for key, values in original_state(model, case.model).items()}
        beside = {"epoch": 3, "args": argparse.Namespace(lr=1e-3, model="tiny")}
        torch.save({"model": state, **beside}, directory / "checkpoint.pth")
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
    size = model.config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    shape = (1, model.config.num_frames, model.config.num_channels, height, width)
    pixel_values = torch.randn(shape, generator=generator).half()
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
