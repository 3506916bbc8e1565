"""Write the golden files of ViViT: tiny random checkpoints, and what the reference implementation computes.

Needs PyTorch and transformers; the files are committed, so run it only to add or change a case:

    python tools/make_goldens.py tests/data

Each case is a directory as transformers saves one (`config.json` and weights, no `preprocessor_config.json`)
with `golden.npz` beside it, float32 but for the input and the row numbers:

    pixel_values  (1, T, C, H, W)         what the model is fed, float16
    rows          (kept,)                 tokens that are kept below, CLS first
    tokens        (kept, hidden)          embedded tubelets and CLS, positions added
    blocks        (depth, kept, hidden)   output of each block
    embedding     (hidden,)               CLS after the final layer norm
    logits        (classes,)

The reference runs in float64, on weights that were rounded to the type that the case is stored in.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from transformers import VivitConfig, VivitForVideoClassification

CLASSES = ("fold", "hop", "juggle", "knit", "row", "skate", "stir", "sweep", "tap", "wave", "yawn")

# Name -> (stored type, config). What each is there for stands beside it.
CASES = {
    # The published kind of model, at a hidden size that fills no whole group of 32.
    "vivit_tiny": (
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
    "vivit_tiny_erf": (
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
    "vivit_tiny_torch": (
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
    ),
    # More tokens than a tile has rows and a block has keys, in whole groups of 32.
    "vivit_tiny_long": (
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
}


def randomise(model: VivitForVideoClassification, generator: torch.Generator) -> None:
    """Draw every parameter so that each shows in the logits, also those that transformers sets to zero.

    A layer's outputs have about the variance of its inputs; queries and keys have more, so that attention
    prefers some tokens to others; layer norms are unlike one.
    """
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if name.endswith("weight") and parameter.ndim > 1:
            values /= math.sqrt(parameter[0].numel())
            if "q_proj" in name or "k_proj" in name:
                values *= 1.5
        elif name.endswith("weight"):
            values = 1 + 0.3 * values
        else:
            values *= 0.5 if parameter.ndim > 1 else 0.2
        parameter.data.copy_(values)


def run(model: VivitForVideoClassification, pixel_values: torch.Tensor) -> dict[str, np.ndarray]:
    """Record what the golden file holds."""
    seen = {}
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output[0].numpy()}))
        for name, module in [
            ("tokens", model.vivit.embeddings),
            ("normed", model.vivit.layernorm),
            *((f"block {i}", layer) for i, layer in enumerate(model.vivit.layers)),
        ]
    ]
    with torch.no_grad():
        logits = model(pixel_values).logits
    for hook in hooks:
        hook.remove()
    rows = np.arange(0, len(seen["tokens"]), 7 if len(seen["tokens"]) > 100 else 1)
    return {
        "rows": rows,
        "tokens": seen["tokens"][rows],
        "blocks": np.stack([seen[f"block {i}"][rows] for i in range(len(model.vivit.layers))]),
        "embedding": seen["normed"][0],
        "logits": logits[0].numpy(),
    }


def write_case(directory: Path, dtype: torch.dtype, fields: dict, seed: int) -> None:
    """Write one case."""
    directory.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    model = VivitForVideoClassification(VivitConfig(**fields)).eval()
    randomise(model, generator)
    model = model.to(dtype)
    model.save_pretrained(directory)
    if dtype == torch.bfloat16:  # the spelling in memory, in the container of older checkpoints
        (directory / "model.safetensors").unlink()
        torch.save(model.state_dict(), directory / "pytorch_model.bin")
    # The version of transformers would make the files of every run look different.
    config = json.loads((directory / "config.json").read_text())
    config.pop("transformers_version", None)
    (directory / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    height, width = model.vivit.embeddings.image_size
    shape = (1, model.config.num_frames, model.config.num_channels, height, width)
    pixel_values = torch.randn(shape, generator=generator).half()
    golden = run(model.double(), pixel_values.double())
    golden = {name: x.astype(np.float32) if x.dtype == np.float64 else x for name, x in golden.items()}
    np.savez_compressed(directory / "golden.npz", pixel_values=pixel_values.numpy(), **golden)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path, help="where the directories of the cases go")
    directory = parser.parse_args().directory
    for seed, (name, (dtype, fields)) in enumerate(CASES.items()):
        write_case(directory / name, dtype, fields, seed)


if __name__ == "__main__":
    main()
