"""ViViT's factorised self-attention and dot product against outputs of scenic's own modules."""

from __future__ import annotations

import json
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
from qora_vision.models.vivit_factorised_attention.checkpoint import CHECKPOINT_MAP
from qora_vision.models.vivit_factorised_attention.network import (
    VivitFactorisedAttention,
    VivitFactorisedAttentionConfig,
)

TIME_SPACE = VivitFactorisedAttentionConfig(**SIZES)
SPACE_TIME = replace(TIME_SPACE, attention="space_time")
DOT_PRODUCT = replace(TIME_SPACE, attention="dot_product")
CASES = {"m3_time_space": TIME_SPACE, "m3_space_time": SPACE_TIME, "m4_dot_product": DOT_PRODUCT}


def described(config: VivitFactorisedAttentionConfig, folder: Path, name: str) -> Path:
    """A folder with a golden case's weights and the config.json that goes with them."""
    case = ScenicCase(name, folder)
    fields = {
        "model_type": "vivit_factorised_attention",
        "attention": config.attention,
        "num_frames": config.num_frames,
        "image_size": list(config.image_size),
        "tubelet_size": list(config.tubelet_size),
        "hidden_size": config.embed_dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.mlp_dim,
    }
    (case.path.parent / "config.json").write_text(json.dumps(fields), encoding="utf-8")
    return case.path


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("name", CASES)
def test_every_block(tmp_path: Path, name: str, isa: str) -> None:
    case = ScenicCase(name, tmp_path)
    engine = Engine("exact", isa=isa)
    model = build(VivitFactorisedAttention, CHECKPOINT_MAP, CASES[name], case.checkpoint, engine=engine)
    for number, clip in enumerate(case.clips):
        output, seen = run(model, clip)
        assert_close(output.logits, case.out["logits"][number], LOGITS)
        assert_close(output.embedding, case.out["pre_logits"][number], LOGITS)
        assert_close(seen[0], case.out["Transformer/posembed_input"][number], STREAM)
        assert_close(seen[1], case.out["Transformer/encoderblock_0"][number], STREAM)
        assert_close(seen[2], case.out["Transformer/encoderblock_1"][number], STREAM)


@pytest.mark.parametrize("weights", ["q4", "q8"])
def test_quantised(tmp_path: Path, weights: str) -> None:
    """`auto` computes the network of the quantised weights: `exact` on them is at hand."""
    case = ScenicCase("m4_dot_product", tmp_path)
    logits = [
        run(
            build(
                VivitFactorisedAttention,
                CHECKPOINT_MAP,
                DOT_PRODUCT,
                case.checkpoint,
                weights=weights,
                engine=Engine(compute),
            ),
            case.clips[0],
        )[0].logits
        for compute in ("exact", "auto")
    ]
    assert_close(logits[1], logits[0], 0.02 * float(np.abs(logits[0]).max()))


def test_a_folder_with_a_config(tmp_path: Path) -> None:
    """Shapes alone cannot say that frames are 32 x 24, nor that attention is over space first."""
    path = described(SPACE_TIME, tmp_path, "m3_space_time")
    clf = qora_vision.load(path.parent, weights="f32", compute="exact")
    assert clf.config == SPACE_TIME
    assert clf.preprocessing.sampling == "dense"
    case = ScenicCase("m3_space_time", tmp_path)
    logits = clf.forward(case.clips[:1])
    assert_close(logits, case.out["logits"][:1], LOGITS)
    with pytest.raises(VideoError):
        clf.forward(case.clips[:1, :4])


def test_loading_by_shapes_alone(tmp_path: Path) -> None:
    """Square frames: a bare file says all that is needed; attention is over time first."""
    config = replace(TIME_SPACE, image_size=(32, 32), num_frames=32, num_heads=1, pre_logits_dim=12)
    np.savez(tmp_path / "x.npz", **random_parameters(CHECKPOINT_MAP, config))
    assert qora_vision.load(tmp_path / "x.npz", weights="f32", compute="exact").config == config


def test_dot_product_must_be_named(tmp_path: Path) -> None:
    path = described(DOT_PRODUCT, tmp_path, "m4_dot_product")
    assert qora_vision.load(path.parent, weights="f32").config == DOT_PRODUCT
    with pytest.raises(CheckpointError, match="dot_product"):
        qora_vision.load(path)
    with pytest.raises(ValueError, match=r"num_heads must be even.*got 3"):
        replace(DOT_PRODUCT, embed_dim=33, num_heads=3)
    with pytest.raises(ValueError, match="attention must be one of"):
        replace(DOT_PRODUCT, attention="sideways")


@pytest.mark.parametrize(("table", "attention"), [("B_m3", "time_space"), ("B_m4", "dot_product")])
def test_published_size(table: str, attention: str) -> None:
    lines = golden(f"keys_vivit_{table}.tsv").read_text("utf-8").splitlines()
    theirs = {line.split("\t")[0]: line.split("\t")[1] for line in lines if "/" in line}
    config = VivitFactorisedAttentionConfig(num_classes=400, attention=attention)
    names = {item.names[0] for ours in config.tensor_specs() for item in candidates_of(CHECKPOINT_MAP, ours)}
    assert set(theirs) <= names
    assert theirs["Transformer/posembed_input/pos_embedding"] == f"1x{config.num_tubelets}x768"
