"""The cases of tools/make_goldens.py: which tiny models there are, and what each is for."""

from dataclasses import dataclass
from typing import Any, Literal

import torch

CLASSES = ("fold", "hop", "juggle", "knit", "row", "skate", "stir", "sweep", "tap", "wave", "yawn")

# V-JEPA 2's other half, which every checkpoint has and a classifier ignores, as small as can be.
PREDICTOR = {
    "pred_hidden_size": 6,
    "pred_num_attention_heads": 1,
    "pred_num_hidden_layers": 1,
    "pred_num_mask_tokens": 1,
    "pred_mlp_ratio": 1.0,
}


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
    # TimeSformer as published: divided attention, at sizes that fill no group of 32 and no vector.
    "timesformer_tiny": Case(
        "Timesformer",
        torch.float32,
        {
            "image_size": 24,
            "patch_size": 8,
            "num_frames": 5,
            "hidden_size": 30,
            "num_hidden_layers": 3,
            "num_attention_heads": 3,
            "intermediate_size": 56,
            "id2label": dict(enumerate(CLASSES)),
        },
    ),
    # Divided attention with more frames than a vector has lanes; the original's names and wrapping.
    "timesformer_tiny_original": Case(
        "Timesformer",
        torch.float16,
        {
            "image_size": 16,
            "patch_size": 4,
            "num_frames": 18,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "num_labels": 13,
        },
        layout="original",
    ),
    # All tokens at once; no biases of q, k and v; pixels left over.
    "timesformer_tiny_joint": Case(
        "Timesformer",
        torch.float16,
        {
            "image_size": 23,
            "patch_size": 5,
            "num_frames": 3,
            "hidden_size": 35,
            "num_hidden_layers": 2,
            "num_attention_heads": 5,
            "intermediate_size": 50,
            "hidden_act": "gelu_new",
            "attention_type": "joint_space_time",
            "qkv_bias": False,
            "num_labels": 24,
        },
    ),
    # Frame by frame; as transformers has it, logits of frames are averaged (by us, not at all there).
    "timesformer_tiny_space": Case(
        "Timesformer",
        torch.float32,
        {
            "image_size": 12,
            "patch_size": 4,
            "num_frames": 4,
            "hidden_size": 36,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 40,
            "attention_type": "space_only",
            "frame_average": False,
            "layer_norm_eps": 1e-3,
            "num_labels": 6,
        },
    ),
    # V-JEPA 2 as published, at a hidden size that fills no group of 32; all 12 channels of a head turn.
    "vjepa2_tiny": Case(
        "VJEPA2",
        torch.float32,
        {
            "crop_size": 24,
            "patch_size": 8,
            "frames_per_clip": 6,
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "mlp_ratio": 3.0,
            "num_pooler_layers": 3,
            "id2label": dict(enumerate(CLASSES)),
            **PREDICTOR,
        },
    ),
    # Heads of 10 channels, 4 of which stay; the odd MLP of ViT-g, no biases of q, k and v in the encoder,
    # frames and pixels left over.
    "vjepa2_tiny_odd": Case(
        "VJEPA2",
        torch.float16,
        {
            "crop_size": 23,
            "patch_size": 5,
            "frames_per_clip": 7,
            "tubelet_size": 3,
            "hidden_size": 30,
            "num_hidden_layers": 3,
            "num_attention_heads": 3,
            "mlp_ratio": 48 / 11,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-3,
            "qkv_bias": False,
            "num_pooler_layers": 1,
            "num_labels": 13,
            **PREDICTOR,
        },
    ),
    # More tokens than a block of keys has, in whole groups of 32; saved by torch.save.
    "vjepa2_tiny_long": Case(
        "VJEPA2",
        torch.float16,
        {
            "crop_size": 20,
            "patch_size": 4,
            "frames_per_clip": 24,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_pooler_layers": 1,
            "num_labels": 20,
            **PREDICTOR,
        },
        layout="torch",
    ),
}
