"""Video Swin as torchvision has it, for golden files and live comparisons: random models, names, outputs."""

import re
from types import ModuleType
from typing import Any

import numpy as np
import torch

# Operators whose absence stops the import of a torchvision whose compiled part is for another PyTorch: that
# of the package index is built for CUDA. Video Swin is plain Python and needs none.
_OPERATORS = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[Any] = []

# Name in torchvision -> in the original code, whose stages and merges are counted apart.
_ORIGINAL_NAMES = (
    (r"^head\.", "cls_head.fc_cls."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.3\.", ".mlp.fc2."),
    (r"^(?!cls_head)", "backbone."),
)


def import_swin() -> ModuleType:
    """Return torchvision's module; ImportError where there is none."""
    try:
        from torchvision.models.video import swin_transformer
    except RuntimeError:
        _declared.append(torch.library.Library("torchvision", "DEF"))
        for name in _OPERATORS:
            _declared[-1].define(name + _SCHEMA)
        from torchvision.models.video import swin_transformer
    return swin_transformer


def make_model(fields: dict[str, Any]) -> Any:
    """Make a classifier from arguments of `SwinTransformer3d`, plain lists and numbers."""
    return import_swin().SwinTransformer3d(**fields).eval()


def original_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return weights as the original code names them."""
    result = {}
    for name, values in state.items():
        if match := re.match(r"features\.(\d+)\.(.*)", name):
            stage, merges = divmod(int(match[1]), 2)
            name = f"layers.{stage}.{'downsample' if merges else 'blocks'}.{match[2]}"
        for pattern, replacement in _ORIGINAL_NAMES:
            name = re.sub(pattern, replacement, name)
        result[name] = values
    return result


def run(model: Any, pixel_values: torch.Tensor) -> dict[str, np.ndarray]:
    """Return tokens (tokens, channels), each block's output likewise, embedding and logits of a clip.

    `pixel_values` is (1, T, C, H, W).
    """
    seen: dict[str, np.ndarray] = {}

    def keep(name: str) -> Any:
        return lambda _, __, output: seen.update({name: output.flatten(0, -2).numpy()})

    blocks = [block for stage in model.features for block in (stage if hasattr(stage, "__len__") else ())]
    hooks = [model.patch_embed.register_forward_hook(keep("tokens"))]
    hooks += [block.register_forward_hook(keep(f"block_{i}")) for i, block in enumerate(blocks, start=1)]
    hooks.append(
        model.head.register_forward_pre_hook(lambda _, inputs: seen.update(embedding=inputs[0][0].numpy()))
    )
    with torch.no_grad():
        seen["logits"] = model(pixel_values.transpose(1, 2)).numpy()[0]
    for hook in hooks:
        hook.remove()
    return seen
