"""ViViT out of scenic's own checkpoints, against outputs of scenic's own modules."""

from __future__ import annotations

from pathlib import Path

from jax_golden import golden
from scenic_cases import LOGITS, SIZES, STREAM, ScenicCase, assert_close, build, run

from qora_vision.loading.conversion import candidates_of
from qora_vision.models.vivit import scenic
from qora_vision.models.vivit.checkpoint import CHECKPOINT_MAP
from qora_vision.models.vivit.network import Vivit, VivitConfig
from qora_vision.weights.checkpoints import open_checkpoint

TINY = VivitConfig(**SIZES)


def test_every_block_and_both_layouts(tmp_path: Path) -> None:
    """The archive, and the msgpack whose arrays are in pieces."""
    case = ScenicCase("m1_spacetime", tmp_path)
    chunked = open_checkpoint(golden("vivit_m1_checkpoint_params_chunked.msgpack"))
    for checkpoint in (case.checkpoint, chunked):
        model = build(Vivit, CHECKPOINT_MAP, TINY, checkpoint)
        for number, clip in enumerate(case.clips):
            output, seen = run(model, clip)
            assert_close(output.logits, case.out["logits"][number], LOGITS)
            assert_close(seen[0], case.out["Transformer/posembed_input"][number], STREAM)
            assert_close(seen[1], case.out["Transformer/encoderblock_0"][number], STREAM)


def test_published_size() -> None:
    lines = golden("keys_vivit_B_m1.tsv").read_text("utf-8").splitlines()
    theirs = {line.split("\t")[0] for line in lines if "/" in line or line.startswith("cls")}
    specs = VivitConfig(num_classes=400).tensor_specs()
    assert {candidates_of(CHECKPOINT_MAP, ours)[-1].names[0] for ours in specs} == theirs


def test_sizes_from_shapes(tmp_path: Path) -> None:
    """3136 positions are 16 frames of tubelets of 14 x 14, nothing else that is square and usual."""
    case = ScenicCase("m1_spacetime", tmp_path)
    fields = scenic.clip_fields(case.checkpoint, None, 16 * 14 * 14)
    assert (fields["num_frames"], fields["image_size"]) == (32, [112, 112])
