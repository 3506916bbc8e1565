"""Models that ship in the package: found by name, used by default, listed, and not confused with files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from paths import CLIP

import qora_vision
from qora_vision.cli import main


def test_a_bundled_model_loads_by_name(tiny_bundled: Path, tmp_path: Path, monkeypatch) -> None:
    """From any folder, and without any cache or network: the file is in the package."""
    monkeypatch.chdir(tmp_path)
    model = qora_vision.load("camera-motion")
    expected = qora_vision.load(tiny_bundled).classify(CLIP)
    assert model.classify(CLIP).to_dict()["predictions"] == expected.to_dict()["predictions"]
    assert [each.name for each in qora_vision.list_bundled()] == ["camera-motion"]
    assert qora_vision.list_bundled()[0].path == tiny_bundled
    assert qora_vision.read_info("camera-motion") == qora_vision.read_info(tiny_bundled)


def test_a_bundled_name_means_the_bundled_model_wherever_it_is_typed(
    tiny_bundled: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch
) -> None:
    """A folder of that name in the current one changes nothing; ./ or a Path names it."""
    monkeypatch.chdir(tmp_path)
    Path("camera-motion").mkdir()
    assert qora_vision.load("camera-motion").quantization == "q4"
    for own in ("./camera-motion", Path("camera-motion")):
        with pytest.raises(OSError, match=r"config\.json"):
            qora_vision.load(own)
    Path("camera-motion").rmdir()
    shutil.copytree(tiny_checkpoint, "camera-motion")
    assert qora_vision.load("./camera-motion", weights="f32").quantization == "f32"
    with pytest.raises(ValueError, match="bundled"):
        qora_vision.load("camera-motion", weights="f32")


def test_a_bundled_model_stays_as_it_was_made(tiny_bundled: Path, tmp_path: Path) -> None:
    assert qora_vision.load("camera-motion", weights="q4").quantization == "q4"
    with pytest.raises(ValueError, match="camera-motion has q4 weights, which cannot become f16"):
        qora_vision.load("camera-motion", weights="f16")
    with pytest.raises(ValueError, match="carries its own preprocessing"):
        qora_vision.load("camera-motion", value_range="hf")
    names = [f"name {index}" for index in range(7)]
    model = qora_vision.load("camera-motion", labels=names, compute="exact")
    assert model.labels == names
    assert model.compute == "exact"
    model.save(tmp_path / "copy.qora-vision")
    assert qora_vision.load(tmp_path / "copy.qora-vision").labels == names


def test_a_name_that_is_nothing_says_where_the_bundled_ones_are(tiny_bundled: Path) -> None:
    with pytest.raises(FileNotFoundError, match="`qora-vision info` lists them"):
        qora_vision.load("camera-moton")


def test_classify_without_a_model_uses_the_bundled_one_and_says_so(tiny_bundled: Path, capsys) -> None:
    assert main(["classify", str(CLIP)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f"{CLIP}  (camera-motion)"
    assert len(err.splitlines()) == 1
    assert "camera-motion" in err
    assert "--model google/vivit-b-16x2-kinetics400" in err
    assert main(["classify", str(CLIP), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["source"], result["model"]) == (str(CLIP), "camera-motion")
    assert main(["classify", str(CLIP), "--model", "camera-motion"]) == 0
    assert capsys.readouterr().err == ""


def test_a_precision_that_the_bundled_model_lacks_is_an_error(tiny_bundled: Path, capsys) -> None:
    assert main(["classify", str(CLIP), "--weights", "f32"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "camera-motion has q4 weights" in err


def test_info_shows_and_lists_bundled_models(tiny_bundled: Path, capsys) -> None:
    assert main(["info", "camera-motion", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file_size"] == tiny_bundled.stat().st_size
    assert main(["info"]) == 0
    assert capsys.readouterr().out.startswith("camera-motion  vivit, q4, ")
    assert main(["info", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["bundled"]
    assert (listed["name"], listed["file"]) == ("camera-motion", str(tiny_bundled))
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bundled_models"] == ["camera-motion"]


def test_an_installation_without_bundled_models_says_so(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("qora_vision.loading.bundled._FOLDER", tmp_path)
    assert main(["info"]) == 0
    assert capsys.readouterr().out == "no model is bundled with this installation\n"
    for verb in ("classify", "demo"):
        assert main([verb, str(CLIP)]) == 2
        assert "this installation has no bundled camera-motion; give --model" in capsys.readouterr().err
