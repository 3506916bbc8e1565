"""Live comparison of Video Swin with torchvision on random weights; see live_reference.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_reference import close, keeps_its_promises, maker
from numpy.typing import NDArray
from published import setting

import qora_vision
from qora_vision.models.video_swin.network import VideoSwinConfig

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no reference to compare with")
pytest.importorskip("transformers", reason="transformers is not installed: it draws the weights")
if find_spec("torchvision") is None:
    pytest.skip("torchvision is not installed: no reference to compare with", allow_module_level=True)
maker()  # makes tools/ importable
import torchvision_swin  # noqa: E402

State = dict[str, Any]
SMALL = {
    "patch_size": [2, 4, 4],
    "embed_dim": 16,
    "depths": [2, 2, 1, 2],
    "num_heads": [1, 2, 4, 4],
    "window_size": [2, 3, 3],
    "num_classes": 10,
}
# (T, C, H, W) of the clip, and what differs from SMALL.
CASES: dict[str, tuple[tuple[int, int, int, int], State]] = {
    "windows divide everything": ((8, 3, 48, 48), {}),
    "odd sizes": ((7, 3, 45, 62), {"embed_dim": 12, "num_heads": [1, 3, 2, 6], "window_size": [3, 2, 4]}),
    "the published window, short in time": ((10, 3, 64, 60), {"window_size": [8, 7, 7]}),
    "the published window, short throughout": ((6, 3, 20, 25), {"window_size": [8, 7, 7]}),
    "windows of all frames": ((32, 3, 36, 40), {"window_size": [16, 7, 7]}),
    "one token a stage": ((1, 3, 4, 4), {}),
    "patches and MLP of other sizes": ((6, 3, 30, 40), {"patch_size": [3, 5, 4], "mlp_ratio": 2.0}),
}


def random_model(fields: State, seed: int) -> Any:
    model = torchvision_swin.make_model(fields)
    maker().randomise(model, torch.Generator().manual_seed(seed))
    return model


def random_clip(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((1, *shape), np.float32)


def reference_logits(model: Any, clip: NDArray[np.float32]) -> NDArray[np.float32]:
    return torchvision_swin.run(model, torch.from_numpy(clip))["logits"]


def write_config(directory: Path, fields: State, clip: tuple[int, ...]) -> None:
    size = {"num_frames": clip[0], "image_size": list(clip[2:])}
    (directory / "config.json").write_text(json.dumps({"model_type": "video_swin", **fields, **size}))


@pytest.mark.parametrize("name", CASES)
def test_exact_logits_are_those_of_torchvision(name: str, tmp_path: Path) -> None:
    shape, change = CASES[name]
    fields, seed = SMALL | change, list(CASES).index(name)
    model = random_model(fields, seed)
    torch.save(model.state_dict(), tmp_path / "swin.pth")
    write_config(tmp_path, fields, shape)
    clip = random_clip(shape, seed)
    clf = qora_vision.load(tmp_path, weights="f32", compute="exact")
    assert close(clf.forward(clip)[0], reference_logits(model, clip))


def original(state: State) -> State:
    return {"state_dict": torchvision_swin.original_state(state), "meta": {"epoch": 30, "lr": [1e-3]}}


def parallel(state: State) -> State:
    return {"state_dict": {f"module.{name}": x for name, x in torchvision_swin.original_state(state).items()}}


def without_index(state: State) -> State:
    return {name: x for name, x in state.items() if "_index" not in name}


@pytest.mark.parametrize("spelling", [dict, original, parallel, without_index])
def test_every_spelling_is_read(spelling: Callable[[State], State], tmp_path: Path) -> None:
    model = random_model(SMALL, 20)
    torch.save(spelling(model.state_dict()), tmp_path / "swin.pth")
    write_config(tmp_path, SMALL, (4, 3, 24, 24))
    clip = random_clip((4, 3, 24, 24), 21)
    clf = qora_vision.load(tmp_path, weights="f32", compute="exact")
    assert close(clf.forward(clip)[0], reference_logits(model, clip))


def test_half_precision_is_read(tmp_path: Path) -> None:
    model = random_model(SMALL, 22).half()
    torch.save(model.state_dict(), tmp_path / "swin.pth")
    write_config(tmp_path, SMALL, (4, 3, 24, 24))
    clip = random_clip((4, 3, 24, 24), 23)
    clf = qora_vision.load(tmp_path, weights="f32", compute="exact")
    assert close(clf.forward(clip)[0], reference_logits(model.float(), clip))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("swin3d_t", {}),
        ("swin3d_s", {"depths": (2, 2, 18, 2)}),
        ("swin3d_b", {"depths": (2, 2, 18, 2), "base_dim": 128, "num_heads": (4, 8, 16, 32)}),
    ],
)
def test_parameters_and_shapes_are_those_of_torchvision(name: str, change: State) -> None:
    with torch.device("meta"):
        model = getattr(torchvision_swin.import_swin(), name)()
    config = VideoSwinConfig(num_classes=400, **change)
    ours = sum(int(np.prod(spec.shape)) for spec in config.tensor_specs().values())
    assert ours == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.filterwarnings("ignore:.*400 classes have no names")
def test_swin_t_at_full_size(tmp_path: Path) -> None:
    """The promises at the published size, from the bare file: 32 frames of 224 x 224, 12 blocks.

    Takes about half a minute and 3 GB on two cores.
    """
    model = torchvision_swin.import_swin().swin3d_t().eval()
    maker().randomise(model, torch.Generator().manual_seed(30))
    torch.save(model.state_dict(), tmp_path / "swin3d_t.pth")
    clip = random_clip((32, 3, 224, 224), 31)
    keeps_its_promises(tmp_path / "swin3d_t.pth", clip, reference_logits(model, clip))


def test_a_published_file_gives_the_logits_of_torchvision() -> None:
    """With QORA_TEST_VIDEO_SWIN=FILE, such as swin3d_b_22k-7c6ae6fa.pth as downloaded."""
    path = setting("QORA_TEST_VIDEO_SWIN", "a file swin3d_*.pth of torchvision")
    model = getattr(torchvision_swin.import_swin(), path.name[: len("swin3d_t")])().eval()
    model.load_state_dict(torch.load(path, weights_only=True))
    clip = random_clip((32, 3, 224, 224), 32)
    keeps_its_promises(path, clip, reference_logits(model, clip))
