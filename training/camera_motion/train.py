"""Train the model: ``python -m training.camera_motion.train --out FOLDER``. Resumes where it was."""

from __future__ import annotations

import argparse
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch.nn import functional

from training.camera_motion.batches import BLOCK, PASSES, batches, blocks, grey
from training.camera_motion.data import evaluation_set
from training.camera_motion.model import Trainee, new_config, save_checkpoint, tubelets_of

SEED, BATCH = 7, 48


def learning_rate(progress: float, peak: float) -> float:
    """Linear warm-up over 3 %, then a cosine down to 1 % of the peak."""
    if progress < 0.03:
        return peak * progress / 0.03 + 1e-6
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - 0.03) / 0.97))))


def scaled(clips: torch.Tensor) -> torch.Tensor:
    """Apply the preprocessing of the checkpoint: bytes to [-1, 1]."""
    return clips.float().div_(127.5).sub_(1.0)


def accuracy(trainee: Trainee, clips: torch.Tensor, labels: torch.Tensor) -> float:
    """Top-1 of the classifier on windows in memory."""
    with torch.no_grad():
        found = torch.cat([trainee(scaled(part))[0].argmax(1) for part in clips.split(44)])
    return float((found == labels).float().mean())


def held_out(split: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Make a few windows of an evaluation split, to watch while training."""
    made = list(evaluation_set(split, count))  # type: ignore[arg-type]
    clips = torch.stack([torch.from_numpy(tubelets_of(grey(clip))) for clip, _ in made])
    return clips, torch.tensor([label for _, label in made])


def gradients(
    trainee: Trainee,
    parameters: list[torch.Tensor],
    clips: torch.Tensor,
    labels: torch.Tensor,
    flow: torch.Tensor,
    weights: torch.Tensor,
) -> tuple[tuple[torch.Tensor, ...], float, float, int]:
    """(gradients, loss of the classes, loss of the helper, right answers) of a part of a batch."""
    logits, found = trainee(scaled(clips))
    loss = functional.cross_entropy(logits, labels, label_smoothing=0.02)
    miss = functional.smooth_l1_loss(found, flow, reduction="none", beta=0.2) * weights
    helper = miss.mean()
    slopes = torch.autograd.grad(loss + 2.0 * helper, parameters)
    return slopes, loss.item(), helper.item(), int((logits.argmax(1) == labels).sum())


def train(out: Path, count: int, peak: float, width: int, layers: int, threads: int) -> None:
    """Go through blocks 0 ... count - 1; the state is kept in `out` after each block."""
    # One thread for each part of a batch, and none within it: on a busy machine, threads that synchronise
    # after each layer wait for each other most of the time.
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    out.mkdir(parents=True, exist_ok=True)
    trainee = Trainee(new_config(width, layers), SEED)
    decays = [p for p in trainee.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in trainee.parameters() if p.requires_grad and p.ndim <= 1]
    parameters = decays + others
    optimiser = torch.optim.AdamW(
        [{"params": decays, "weight_decay": 0.03}, {"params": others, "weight_decay": 0.0}],
        lr=peak,
        betas=(0.9, 0.98),
    )
    first, state = 0, out / "state.pt"
    if state.exists():
        stored = torch.load(state)
        trainee.load_state_dict(stored["model"])
        optimiser.load_state_dict(stored["optimiser"])
        first = stored["block"] + 1
    watched = {split: held_out(split, 220) for split in ("photographs", "clips")}
    steps = BLOCK // BATCH * PASSES
    began = time.time()
    for number, block in blocks(first, count, str(out)):
        right = total = 0
        losses = [0.0, 0.0]
        trainee.train()
        for step, (clips, labels, flow, weights) in enumerate(batches(number, block, BATCH)):
            progress = (number + step / steps) / count
            rate = learning_rate(progress, peak)
            for group in optimiser.param_groups:
                group["lr"] = rate
            parts = zip(*(tensor.chunk(threads) for tensor in (clips, labels, flow, weights)), strict=True)
            done = list(pool.map(lambda part: gradients(trainee, parameters, *part), parts))
            for number_of, parameter in enumerate(parameters):
                parameter.grad = sum(result[0][number_of] for result in done) / threads
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            right += sum(result[3] for result in done)
            total += len(labels)
            losses = [losses[i] + sum(result[1 + i] for result in done) / threads for i in range(2)]
            if step % 16 == 15:
                line = (
                    f"{time.time() - began:6.0f} s block {number} step {step + 1} loss {losses[0] / 16:.3f} "
                    f"flow {losses[1] / 16:.4f} right {right / total:.3f} rate {rate:.1e}"
                )
                print(line, flush=True)
                right = total = 0
                losses = [0.0, 0.0]
        trainee.eval()
        seen = {split: accuracy(trainee, *pair) for split, pair in watched.items()}
        print(f"after block {number}: " + ", ".join(f"{k} {v:.3f}" for k, v in seen.items()), flush=True)
        torch.save(
            {"model": trainee.state_dict(), "optimiser": optimiser.state_dict(), "block": number}, state
        )
        save_checkpoint(trainee, out / "latest")


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the state, the log and the checkpoint"
    )
    parser.add_argument("--blocks", type=int, default=70, help="blocks of windows to go through")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="peak of the learning rate")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    train(args.out, args.blocks, args.rate, args.width, args.layers, args.threads)


if __name__ == "__main__":
    main()
