"""Saving a `.qora-vision` file: all of it or nothing, whatever goes wrong."""

import dataclasses
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import qora_vision.errors
from qora_vision.weights.format import ModelFile, read_model, write_model

posix_only = pytest.mark.skipif(os.name != "posix", reason="needs POSIX file semantics")


@pytest.fixture
def model():
    tensors = {"x": np.arange(1000, dtype=np.float32), "y": np.ones((2, 3), np.float16)}
    return ModelFile("vivit", {"depth": 1}, {}, ["a", "b"], "f32", {}, tensors)


@pytest.fixture
def path(tmp_path, model):
    target = tmp_path / "model.qora-vision"
    write_model(target, model)
    return target


@posix_only
def test_saving_over_the_file_that_the_tensors_come_from(path, model):
    loaded = read_model(path)
    write_model(path, dataclasses.replace(loaded, labels=None))
    assert read_model(path).labels is None
    for tensors in (loaded.tensors, read_model(path).tensors):  # the former still views of the old file
        for name, tensor in model.tensors.items():
            np.testing.assert_array_equal(tensors[name], tensor, strict=True)


@posix_only
def test_a_full_disk_leaves_the_old_file(path, model):
    """A real short write: the process may not write files beyond a size."""
    before = path.read_bytes()
    script = textwrap.dedent(
        """
        import resource, sys
        import numpy as np
        from qora_vision.weights.format import ModelFile, write_model
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
        tensors = {"x": np.zeros(300_000, np.float32)}
        try:
            write_model(sys.argv[1], ModelFile("a", {}, {}, None, "f32", {}, tensors))
        except OSError as error:
            print(error)
        """
    )
    package = str(Path(qora_vision.errors.__file__).parents[1])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    done = subprocess.run(
        [sys.executable, "-c", script, path],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        timeout=60,
    )
    assert "cannot save (File too large); the old file, if there was one, is unchanged" in done.stdout
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_on_the_way_leaves_nothing_behind(path, model, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_model(path, dataclasses.replace(model, labels=None))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_directory_without_write_permission(path, model):
    before = path.read_bytes()
    path.parent.chmod(0o555)
    try:
        with pytest.raises(PermissionError, match="cannot save"):
            write_model(path, dataclasses.replace(model, labels=None))
    finally:
        path.parent.chmod(0o755)
    assert path.read_bytes() == before


def test_targets_that_cannot_be_written(tmp_path, model):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OSError, match="cannot save"):
        write_model(tmp_path / "file" / "m", model)
    with pytest.raises(OSError, match="cannot save"):
        write_model(tmp_path / "nowhere" / "m", model)
    with pytest.raises(IsADirectoryError, match="not a regular file"):
        write_model(tmp_path, model)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@posix_only
def test_a_device_is_not_replaced(model):
    with pytest.raises(OSError, match="not a regular file"):
        write_model("/dev/null", model)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@posix_only
def test_links_are_followed_and_permissions_kept(path, model, tmp_path):
    path.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(path)
    write_model(link, dataclasses.replace(model, labels=None))
    assert link.is_symlink() and read_model(path).labels is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
