"""Train the small ViViT of the drifting gratings: the second trained model of docs/quantisation.md.

    python -m training.drifting_gratings.train OUTPUT [--steps 1500]

Needs PyTorch and transformers. The result is a Hugging Face checkpoint directory in half precision, the same
from run to run on one machine and number of threads.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import VivitConfig, VivitForVideoClassification

from training.drifting_gratings.data import FRAMES, LABELS, SIZE, make_clips

SEED = 1
HELD_OUT_SEED = 2
PROCESSOR = {
    "image_processor_type": "VivitImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": SIZE},
    "do_center_crop": True,
    "crop_size": {"height": SIZE, "width": SIZE},
    "do_rescale": True,
    "rescale_factor": 1 / 127.5,
    "offset": True,
    "do_normalize": False,
}


def new_model() -> VivitForVideoClassification:
    """Return the untrained network: 64 tubelets of 8 x 32 x 32 pixels, 64 channels, 3 blocks."""
    config = VivitConfig(
        image_size=SIZE,
        num_frames=FRAMES,
        tubelet_size=[2, 8, 8],
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=256,
        # The usual 0.02 is for wide networks: this narrow one would hardly let signals through.
        initializer_range=0.1,
        id2label=dict(enumerate(LABELS)),
        label2id={label: i for i, label in enumerate(LABELS)},
        attn_implementation="sdpa",
    )
    return VivitForVideoClassification(config)


def as_input(clips: np.ndarray) -> torch.Tensor:
    """Return pixel values (B, T, 3, H, W) in [-1, 1] of uint8 clips (B, T, H, W, 3)."""
    return torch.from_numpy(clips).permute(0, 1, 4, 2, 3).float() / 127.5 - 1


def train(output: Path, steps: int, batch: int) -> None:
    """Train from nothing and write the checkpoint; every batch is new."""
    torch.manual_seed(SEED)
    model = new_model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.1)
    recent: list[float] = []
    for step in range(steps):
        clips, labels = make_clips(SEED, step * batch, batch)
        loss = cross_entropy(model(pixel_values=as_input(clips)).logits, torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent.append(loss.item())
        if len(recent) == 100:
            print(f"step {step + 1}: loss {np.mean(recent):.3f}", flush=True)
            recent.clear()
    accuracy = evaluate(model.eval())
    print(f"held out: {accuracy:.1%} of 1000 clips")
    model.half().save_pretrained(output)
    (output / "preprocessor_config.json").write_text(json.dumps(PROCESSOR, indent=2) + "\n")


def evaluate(model: VivitForVideoClassification) -> float:
    """Return the share of 1000 held-out clips whose class is found."""
    right = 0
    with torch.inference_mode():
        for first in range(0, 1000, 100):
            clips, labels = make_clips(HELD_OUT_SEED, first, 100)
            found = model(pixel_values=as_input(clips)).logits.argmax(-1)
            right += int((found.numpy() == labels).sum())
    return right / 1000


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, help="directory of the checkpoint")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    train(arguments.output, arguments.steps, arguments.batch)


if __name__ == "__main__":
    main()
