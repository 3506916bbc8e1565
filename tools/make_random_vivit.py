"""Write a ViViT checkpoint directory with random weights, as Hugging Face saves one, without PyTorch.

The result has the files and the tensor names and shapes of `google/vivit-b-16x2-kinetics400`; its weights are
drawn from a normal distribution, so what it predicts means nothing. It shows speed, and exercises the way
from a checkpoint to an answer where no trained one is at hand.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

LABELS = Path(__file__).parents[1] / "python" / "qora_vision" / "assets" / "kinetics400.txt"

VIVIT_B = {
    "image_size": 224,
    "num_frames": 32,
    "tubelet_size": [2, 16, 16],
    "num_channels": 3,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu_fast",
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
}

PREPROCESSOR = {
    "image_processor_type": "VivitImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "resample": 2,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 127.5,
    "offset": True,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def tensor_shapes(config: dict, num_labels: int) -> dict[str, tuple[int, ...]]:
    """Names (as in files that `save_pretrained` writes) and shapes of every tensor of the model."""
    dim, mlp_dim = config["hidden_size"], config["intermediate_size"]
    frames, height, width = config["tubelet_size"]
    tokens = (
        (config["num_frames"] // frames) * (config["image_size"] // height) * (config["image_size"] // width)
    )
    shapes: dict[str, tuple[int, ...]] = {
        "vivit.embeddings.cls_token": (1, 1, dim),
        "vivit.embeddings.position_embeddings": (1, tokens + 1, dim),
        "vivit.embeddings.patch_embeddings.projection.weight": (
            dim,
            config["num_channels"],
            frames,
            height,
            width,
        ),
        "vivit.embeddings.patch_embeddings.projection.bias": (dim,),
    }
    linears = {
        "attention.attention.query": (dim, dim),
        "attention.attention.key": (dim, dim),
        "attention.attention.value": (dim, dim),
        "attention.output.dense": (dim, dim),
        "intermediate.dense": (mlp_dim, dim),
        "output.dense": (dim, mlp_dim),
    }
    for layer in range(config["num_hidden_layers"]):
        prefix = f"vivit.encoder.layer.{layer}"
        for name, shape in linears.items():
            shapes[f"{prefix}.{name}.weight"] = shape
            shapes[f"{prefix}.{name}.bias"] = shape[:1]
        for name in ("layernorm_before", "layernorm_after"):
            shapes[f"{prefix}.{name}.weight"] = shapes[f"{prefix}.{name}.bias"] = (dim,)
    shapes["vivit.layernorm.weight"] = shapes["vivit.layernorm.bias"] = (dim,)
    shapes["classifier.weight"] = (num_labels, dim)
    shapes["classifier.bias"] = (num_labels,)
    return shapes


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Float32 tensors: normal with deviation 0.02, layer norms around one."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes.items():
        values = rng.standard_normal(shape, dtype=np.float32)
        values *= np.float32(0.02)
        if "layernorm" in name and name.endswith(".weight"):
            values += np.float32(1)
        tensors[name] = values
    return tensors


def write_checkpoint(directory: Path, config: dict, labels: list[str], seed: int = 0) -> None:
    """Write `config.json`, `preprocessor_config.json` and `model.safetensors`, the weights last."""
    directory.mkdir(parents=True, exist_ok=True)
    id2label = {str(index): label for index, label in enumerate(labels)}
    label2id = {label: index for index, label in enumerate(labels)}
    described = {
        "architectures": ["VivitForVideoClassification"],
        "model_type": "vivit",
        **config,
        "id2label": id2label,
        "label2id": label2id,
    }
    size = config["image_size"]
    processor = {
        **PREPROCESSOR,
        "size": {"shortest_edge": size * 8 // 7},
        "crop_size": {"height": size, "width": size},
    }
    (directory / "config.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    (directory / "preprocessor_config.json").write_text(
        json.dumps(processor, indent=2) + "\n", encoding="utf-8"
    )
    tensors = random_tensors(tensor_shapes(config, len(labels)), seed)
    partial = directory / "model.safetensors.part"
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.replace(directory / "model.safetensors")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path, help="where to write the checkpoint")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the random weights (default: %(default)s)"
    )
    arguments = parser.parse_args()
    labels = LABELS.read_text(encoding="utf-8").splitlines()
    write_checkpoint(arguments.directory, VIVIT_B, labels, arguments.seed)


if __name__ == "__main__":
    main()
