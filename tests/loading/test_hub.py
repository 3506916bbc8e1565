"""Models of the Hugging Face hub: downloaded, checked, converted once; and the errors of each step."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants as constants
import pytest
from hub_server import COMMIT, HubServer, serve

import qora_vision
from qora_vision import DownloadError
from qora_vision.cli import main
from qora_vision.loading.hub import parse_reference

NAME = "somebody/tiny-vivit"


@pytest.fixture
def hub(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with one model, this process pointed at it, both caches empty."""
    directory = tmp_path / "remote"
    shutil.copytree(tiny_checkpoint, directory)
    (directory / "pytorch_model.bin").write_bytes(b"never to be fetched")
    (directory / "README.md").write_text("never to be fetched", "utf-8")
    with serve(HubServer(directory)) as server:
        point_at(server.endpoint, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        # Between the tries of huggingface_hub; filelock has the same module and needs its time.
        monkeypatch.setattr("time.sleep", lambda seconds, sleep=time.sleep: sleep(min(seconds, 0.01)))
        monkeypatch.setenv("QORA_VISION_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


def point_at(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what HF_ENDPOINT does when huggingface_hub is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def downloads(tmp_path: Path) -> list[Path]:
    """Contents that huggingface_hub keeps."""
    return [path for path in (tmp_path / "hf").rglob("blobs/*") if path.is_file()]


def converted(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("*.qora-vision"))


# What is a reference


@pytest.mark.parametrize(
    ("text", "repository", "revision"),
    [
        ("google/vivit-b-16x2-kinetics400", "google/vivit-b-16x2-kinetics400", "main"),
        ("MCG-NJU/videomae-base@v1.0", "MCG-NJU/videomae-base", "v1.0"),
        ("a/b@refs/pr/3", "a/b", "refs/pr/3"),
        (f"a/b@{COMMIT}", "a/b", COMMIT),
    ],
)
def test_references(text: str, repository: str, revision: str) -> None:
    reference = parse_reference(text)
    assert reference is not None
    assert (reference.repository, reference.revision) == (repository, revision)


@pytest.mark.parametrize(
    "text",
    [
        "model",
        "./models/vivit",
        "/models/vivit",
        "a/b/c",
        "a/b.qora-vision",
        "../x",
        "a\\b",
        "a/..",
        "a--b/c",
        "",
    ],
)
def test_paths_are_no_references(text: str) -> None:
    assert parse_reference(text) is None


def test_a_directory_of_that_name_comes_first(
    hub: HubServer, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_checkpoint, NAME)
    assert qora_vision.load(NAME).architecture == "vivit"
    assert hub.requests == []


# What is fetched and kept


def test_fetched_and_converted_once(
    hub: HubServer, tiny_checkpoint: Path, tmp_path: Path, frames: Path
) -> None:
    steps: list[tuple[int, int, str]] = []
    first = qora_vision.load(NAME, progress=lambda *step: steps.append(step))
    fetched = hub.fetched()
    assert sorted(fetched) == ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert {what for _, _, what in steps} == {"downloading (MiB)", "converting weights"}
    assert first.provenance["source"] == NAME
    assert first.provenance["revision"] == COMMIT
    assert first.provenance["licence"] == "apache-2.0"
    again = qora_vision.load(NAME)
    assert hub.fetched() == fetched, "the second call downloads nothing"
    assert [path.name for path in converted(tmp_path)] == [f"{COMMIT}-q4.qora-vision"]
    local = qora_vision.load(tiny_checkpoint)
    expected = local.classify(frames).logits
    assert (first.classify(frames).logits == expected).all()
    assert (again.classify(frames).logits == expected).all()


def test_each_precision_and_value_range_has_its_file(hub: HubServer, tmp_path: Path) -> None:
    for weights in ("q4", "q8", "f16", "f32"):
        assert qora_vision.load(NAME, weights=weights).quantization == weights
    hf = qora_vision.load(NAME, value_range="hf")
    assert hf.preprocessing != qora_vision.load(NAME).preprocessing
    names = [path.name.removeprefix(COMMIT) for path in converted(tmp_path)]
    assert names == ["-q4-hf.qora-vision", "-q4.qora-vision", "-q8.qora-vision"]


def test_revisions(hub: HubServer, tmp_path: Path) -> None:
    qora_vision.load(f"{NAME}@v1.0")
    (model,) = qora_vision.ModelCache().models()
    assert (model.repository, model.revisions, model.commit) == (NAME, ("v1.0",), COMMIT)
    with pytest.raises(DownloadError, match=r"no branch, tag or commit 'v9'"):
        qora_vision.load(f"{NAME}@v9")


def test_safetensors_come_before_bin_and_shards_are_followed(
    hub: HubServer, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(tiny_checkpoint / "model.safetensors")
    (hub.directory / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, part in shards.items():
        save_file({name: tensors[name] for name in part}, hub.directory / shard)
    weight_map = {name: shard for shard, part in shards.items() for name in part}
    index = hub.directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), "utf-8")
    assert qora_vision.load(NAME).architecture == "vivit"
    assert set(shards) < set(hub.fetched())
    assert "pytorch_model.bin" not in hub.fetched()

    index.write_text(json.dumps({"weight_map": {names[0]: "../../etc/passwd"}}), "utf-8")
    shutil.rmtree(tmp_path / "hf")
    qora_vision.ModelCache().clear()
    with pytest.raises(DownloadError, match="which the repository lacks"):
        qora_vision.load(NAME)


def test_a_damaged_converted_file_is_made_anew(hub: HubServer, tmp_path: Path) -> None:
    qora_vision.load(NAME)
    (path,) = converted(tmp_path)
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    assert qora_vision.load(NAME).architecture == "vivit"
    assert path.read_bytes() != bytes(data)


def test_two_processes_at_once(hub: HubServer, tmp_path: Path) -> None:
    """Through the environment variables alone, as users set them."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "QORA_VISION_CACHE": str(tmp_path / "cache"),
    }
    code = f"import qora_vision; print(qora_vision.load({NAME!r}).quantization)"
    command = [sys.executable, "-c", code]
    runs = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [run.communicate(timeout=120)[0].strip() for run in runs] == ["q4", "q4"]
    assert hub.fetched().count("model.safetensors") == 1
    assert len(converted(tmp_path)) == 1


# Offline


def test_offline_needs_nothing_once_it_is_here(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qora_vision.load(NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert qora_vision.load(NAME).quantization == "q4"
    assert qora_vision.load(NAME, weights="f32").quantization == "f32", "made of the download"
    shutil.rmtree(tmp_path / "hf")
    assert qora_vision.load(NAME).quantization == "q4", "the converted file is enough"
    assert hub.requests == []
    with pytest.raises(DownloadError, match="local copy is incomplete"):
        qora_vision.load(NAME, weights="q8")


def test_offline_without_a_copy(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE forbids"):
        qora_vision.load(NAME)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_in_trouble_does_not_matter_once_it_is_here(hub: HubServer, status: int) -> None:
    qora_vision.load(NAME)
    hub.api_status = status
    assert qora_vision.load(NAME).quantization == "q4"


# What goes wrong


def test_unknown_model(hub: HubServer) -> None:
    with pytest.raises(DownloadError, match=r"no file or directory 'nobody/nothing', and no model"):
        qora_vision.load("nobody/nothing")


def test_private_model(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "hf_secret"
    with pytest.raises(DownloadError, match="set HF_TOKEN"):
        qora_vision.load(NAME)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert qora_vision.load(NAME).architecture == "vivit"


def test_gated_model(hub: HubServer) -> None:
    hub.gated = True
    with pytest.raises(DownloadError, match="accept its terms"):
        qora_vision.load(NAME)


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "HF_TOKEN"), (429, "too many requests"), (500, "try again later")]
)
def test_errors_of_the_hub(hub: HubServer, tmp_path: Path, status: int, advice: str) -> None:
    hub.api_status = status
    with pytest.raises(DownloadError, match=advice):
        qora_vision.load(NAME)
    hub.api_status, hub.file_status = None, status
    with pytest.raises(DownloadError, match=advice):
        qora_vision.load(NAME)
    assert converted(tmp_path) == downloads(tmp_path) == []


@pytest.mark.skipif(
    tuple(map(int, huggingface_hub.__version__.split(".")[:2])) < (1, 20),
    reason="huggingface_hub before 1.20 does not continue a cut download by itself",
)
def test_a_cut_connection_is_resumed(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.cut_after, hub.cuts = 5000, 2
    assert qora_vision.load(NAME).architecture == "vivit"
    assert hub.ranges == ["bytes=5000-", "bytes=10000-"]


def test_a_connection_that_is_always_cut(hub: HubServer, tmp_path: Path) -> None:
    hub.cut_after, hub.cuts = 0, 1000
    with pytest.raises(DownloadError, match=r"could not be fetched .*nothing half-downloaded"):
        qora_vision.load(NAME)
    assert converted(tmp_path) == []
    assert not any("safetensors" in path.name for path in (tmp_path / "hf").rglob("snapshots/*/*"))
    hub.cuts = 0
    assert qora_vision.load(NAME).architecture == "vivit"


def test_a_file_whose_size_lies(hub: HubServer, tmp_path: Path) -> None:
    hub.lying_size = True
    with pytest.raises(DownloadError, match="could not be fetched"):
        qora_vision.load(NAME)
    assert converted(tmp_path) == []


def test_a_file_whose_content_lies(hub: HubServer, tmp_path: Path) -> None:
    hub.damaged = True
    with pytest.raises(DownloadError, match=r"model\.safetensors arrived damaged .*was removed"):
        qora_vision.load(NAME)
    assert converted(tmp_path) == []
    hub.damaged = False
    assert qora_vision.load(NAME).architecture == "vivit", "the damaged one is gone, not trusted"


def test_no_server(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(DownloadError, match="check the connection"):
        qora_vision.load(NAME)


def test_not_a_checkpoint(hub: HubServer) -> None:
    (hub.directory / "model.safetensors").unlink()
    (hub.directory / "pytorch_model.bin").unlink()
    with pytest.raises(DownloadError, match=r"has no model\.safetensors or"):
        qora_vision.load(NAME)


def test_full_disk(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    with pytest.raises(DownloadError, match="the disk is full"):
        qora_vision.load(NAME)


def test_a_cache_that_cannot_be_written(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way", "utf-8")
    monkeypatch.setenv("QORA_VISION_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match="file"):
        qora_vision.load(NAME)


# The console script


def test_cache_verb(hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "list"]) == 0
    assert "holds 0 models" in capsys.readouterr().out
    assert main(["convert", NAME, "-o", str(tmp_path / "out.qora-vision")]) == 0
    capsys.readouterr()
    assert main(["cache", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(each["repository"], each["weights"]) for each in listed["holds"]] == [(NAME, "q4")]
    assert main(["cache", "clear", "some/other"]) == 1
    assert "holds nothing of 'some/other'" in capsys.readouterr().err
    assert main(["cache", "clear", NAME]) == 0
    assert "removed 1 model" in capsys.readouterr().out
    assert converted(tmp_path) == []
    assert main(["cache", "clear"]) == 0


def test_errors_on_one_line(hub: HubServer, frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", str(frames), "--model", "nobody/nothing"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "nobody/nothing" in error


def test_labels_in_place_of_wrong_ones(hub: HubServer, tmp_path: Path) -> None:
    """Names of the caller repair a model whose own are too few; without them it is refused each time."""
    path = tmp_path / "remote" / "config.json"
    config = json.loads(path.read_text())
    config["id2label"] = {"0": "a", "1": "b"}
    path.write_text(json.dumps(config))
    with pytest.raises(qora_vision.CheckpointError, match=r"names 2 classes.*labels= .*gives names"):
        qora_vision.load(NAME)
    names = [f"name {i}" for i in range(7)]
    assert qora_vision.load(NAME, labels=names).labels == names
    fetched = len(hub.requests)
    assert qora_vision.load(NAME, labels=names[::-1]).labels == names[::-1]
    assert all("resolve" not in str(request) for request in hub.requests[fetched:])
    (kept,) = converted(tmp_path)
    assert kept.name.endswith("-q4-unnamed.qora-vision")
    with pytest.raises(qora_vision.CheckpointError, match="names 2 classes"):
        qora_vision.load(NAME)
    assert [model.precision for model in qora_vision.ModelCache().models()] == ["q4-unnamed"]
