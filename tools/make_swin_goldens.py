"""Write the golden files of Video Swin: tiny random checkpoints, and what torchvision computes with them.

Needs PyTorch, torchvision and transformers; the files are committed, so run it only to add or change a case:

    python tools/make_swin_goldens.py tests/data [CASE ...]

Each case is a directory with `config.json`, a `.pth` file and `golden.npz`: `pixel_values` (1, T, C, H, W)
float16, `tokens` (tokens, channels), `block_1` and so on likewise for each block, `embedding` and `logits`,
float32. The reference runs in float64, on weights that were rounded to the type that the case is stored in.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision_swin


@dataclass(frozen=True)
class Case:
    """One golden directory: arguments of torchvision's class, size of the clip, and how weights are kept."""

    fields: dict[str, Any]
    clip: tuple[int, int, int, int]
    dtype: torch.dtype
    original: bool = False


PATCH = [2, 4, 4]
CASES = {
    # Pixels, windows and merges that nothing divides; shifts along all dimensions; widths of no round number.
    "video_swin_tiny": Case(
        {
            "patch_size": PATCH,
            "embed_dim": 6,
            "depths": [2, 1, 1, 1],
            "num_heads": [1, 2, 3, 4],
            "window_size": [2, 3, 3],
            "num_classes": 11,
        },
        (5, 3, 30, 27),
        torch.float16,
    ),
    # The published window on a clip that is shorter, and from stage to stage smaller: its index is cut off.
    "video_swin_tiny_original": Case(
        {
            "patch_size": PATCH,
            "embed_dim": 8,
            "depths": [1, 2, 1, 1],
            "num_heads": [1, 1, 2, 4],
            "window_size": [8, 7, 7],
            "num_classes": 13,
        },
        (8, 3, 36, 44),
        torch.float16,
        original=True,
    ),
    # Windows as long as the clip, as the models of Something-Something have them.
    "video_swin_tiny_long": Case(
        {
            "patch_size": PATCH,
            "embed_dim": 4,
            "depths": [2, 1, 1, 1],
            "num_heads": [1, 1, 2, 2],
            "window_size": [16, 3, 3],
            "mlp_ratio": 3,
            "num_classes": 7,
        },
        (32, 3, 20, 16),
        torch.float32,
    ),
}


def write_case(directory: Path, case: Case, seed: int) -> None:
    """Write one case."""
    model = torchvision_swin.make_model(case.fields)  # before transformers, which imports torchvision
    from make_goldens import randomise

    directory.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    randomise(model, generator)
    model = model.to(case.dtype)
    frames, _, height, width = case.clip
    config = {key: value for key, value in case.fields.items() if key != "num_classes"}
    config |= {"model_type": "video_swin", "num_frames": frames, "image_size": [height, width]}
    (directory / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    # The buffer of indices is many times larger than all weights; one case has it.
    keeps_index = case is next(iter(CASES.values()))
    state = {key: x for key, x in model.state_dict().items() if keeps_index or "_index" not in key}
    if case.original:
        state = {"state_dict": torchvision_swin.original_state(state), "meta": {"epoch": 30}}
    torch.save(state, directory / "checkpoint.pth")
    pixel_values = torch.randn((1, *case.clip), generator=generator).half()
    golden = torchvision_swin.run(model.double(), pixel_values.double())
    golden = {name: x.astype(np.float32) for name, x in golden.items()}
    np.savez_compressed(directory / "golden.npz", pixel_values=pixel_values.numpy(), **golden)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path, help="where the directories of the cases go")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="names (default: all)")
    arguments = parser.parse_args()
    for seed, (name, case) in enumerate(CASES.items(), start=100):
        if not arguments.cases or name in arguments.cases:
            write_case(arguments.directory / name, case, seed)


if __name__ == "__main__":
    main()
