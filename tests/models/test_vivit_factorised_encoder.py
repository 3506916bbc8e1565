"""ViViT's factorised encoder against outputs of scenic's own modules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jax_golden import golden
from scenic_cases import LOGITS, SIZES, STREAM, ScenicCase, assert_close, build, random_parameters, run

import qora_vision
from qora_vision.engine.ops import Engine, available_isas
from qora_vision.errors import CheckpointError, VideoError
from qora_vision.loading.conversion import candidates_of
from qora_vision.models.vivit_factorised_encoder.checkpoint import CHECKPOINT_MAP
from qora_vision.models.vivit_factorised_encoder.network import (
    VivitFactorisedEncoder,
    VivitFactorisedEncoderConfig,
)
from qora_vision.weights.checkpoints import open_checkpoint

TINY = VivitFactorisedEncoderConfig(
    **SIZES,
    temporal_depth=2,
    temporal_num_heads=4,
    temporal_mlp_dim=64,
)
GAP = replace(TINY, pooling="gap", pre_logits_dim=20)
SAMPLING = replace(TINY, num_frames=3, tubelet_size=(1, 8, 8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scenic")


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize(
    ("name", "config"), [("m2_factorized_encoder", TINY), ("m2_gap_prelogits", GAP)], ids=["token", "gap"]
)
def test_every_block(folder: Path, name: str, config: VivitFactorisedEncoderConfig, isa: str) -> None:
    case = ScenicCase(name, folder)
    model = build(
        VivitFactorisedEncoder, CHECKPOINT_MAP, config, case.checkpoint, engine=Engine("exact", isa=isa)
    )
    cls = config.cls_tokens
    for number, clip in enumerate(case.clips):
        output, seen = run(model, clip)
        assert_close(output.logits, case.out["logits"][number], LOGITS)
        assert_close(output.embedding, case.out["pre_logits"][number], LOGITS)
        spatial, temporal = "SpatialTransformer/encoderblock_", "TemporalTransformer/encoderblock_"
        assert_close(seen[0], case.out["SpatialTransformer/posembed_input"][number], STREAM)
        assert_close(seen[1], case.out[f"{spatial}0"][number], STREAM)
        assert_close(seen[3], case.out[f"{temporal}0"][number], STREAM)
        # With CLS the last block of an encoder computes that row alone.
        last = case.out[f"{spatial}1"][number]
        assert_close(seen[2], last[:, 0] if cls else last, STREAM)
        last = case.out[f"{temporal}1"][number]
        assert_close(seen[4], last[:1] if cls else last, STREAM)


def test_frames_sampled_from_a_clip(folder: Path) -> None:
    """scenic's temporal_sampling: patches of some frames; the frames are chosen before the network."""
    case = ScenicCase("m2_temporal_sampling", folder)
    model = build(VivitFactorisedEncoder, CHECKPOINT_MAP, SAMPLING, case.checkpoint)
    for number, clip in enumerate(case.clips):
        output, _ = run(model, clip[case.out["frame_indices"]])
        assert_close(output.logits, case.out["logits"][number], LOGITS)


def test_checkpoint_of_flax(folder: Path) -> None:
    """The same parameters out of the authors' msgpack, momenta and all."""
    case = ScenicCase("m2_factorized_encoder", folder)
    checkpoint = open_checkpoint(golden("vivit_m2_checkpoint_optimizer_target.msgpack"))
    model = build(VivitFactorisedEncoder, CHECKPOINT_MAP, TINY, checkpoint)
    assert_close(run(model, case.clips[0])[0].logits, case.out["logits"][0], LOGITS)


@pytest.mark.parametrize(("name", "temporal"), [("B_m2", 4), ("L_m2_t24", 24), ("L_m2_t4", 4)])
def test_published_sizes(name: str, temporal: int) -> None:
    """Every parameter of the full-size trees is known, of the right shape, and none is left."""
    lines = golden(f"keys_vivit_{name}.tsv").read_text("utf-8").splitlines()
    theirs = {line.split("\t")[0]: line.split("\t")[1] for line in lines if "\t" in line and "x" in line}
    large = {"embed_dim": 1024, "num_heads": 16, "mlp_dim": 4096, "depth": 24, "temporal_num_heads": 16}
    sizes = {**large, "temporal_mlp_dim": 4096} if name.startswith("L") else {}
    config = VivitFactorisedEncoderConfig(num_classes=400, temporal_depth=temporal, **sizes)
    specs = config.tensor_specs()
    names = {item.names[0] for ours in specs for item in candidates_of(CHECKPOINT_MAP, ours)}
    assert set(theirs) <= names
    total = sum(int(np.prod([int(n) for n in shape.split("x")])) for shape in theirs.values())
    vectors = sum(int(np.prod(spec.shape)) for ours, spec in specs.items() if len(spec.shape) == 1)
    matrices = sum(int(np.prod(spec.shape)) for ours, spec in specs.items() if len(spec.shape) > 1)
    assert total >= matrices
    assert total <= matrices + vectors


def test_loading_by_shapes_alone(tmp_path: Path) -> None:
    """Square frames: a bare file says all that is needed; the rest is the authors' protocol."""
    config = replace(TINY, image_size=(32, 32), num_frames=8, temporal_depth=3)
    arrays = random_parameters(CHECKPOINT_MAP, config)
    np.savez(tmp_path / "x.npz", **arrays)
    clf = qora_vision.load(tmp_path / "x.npz", weights="f32", compute="exact")
    # The shape of Q says how many heads: one, as saved here.
    assert clf.config == replace(config, num_heads=1, temporal_num_heads=1)
    assert clf.preprocessing.sampling == "dense"
    assert clf.preprocessing.stride == 2
    assert clf.preprocessing.resize_rule == "plain"
    with pytest.raises(VideoError):
        clf.forward(np.zeros((1, 7, 3, 32, 32), np.float32))
    del arrays["TemporalTransformer/posembed_input/pos_embedding"]
    np.savez(tmp_path / "y.npz", **arrays)
    with pytest.raises(CheckpointError, match="without temporal encoder"):
        qora_vision.load(tmp_path / "y.npz")
