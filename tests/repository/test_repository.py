"""Facts that several places of the repository state agree."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from safetensors.numpy import load_file
from tiny_vivit import CONFIG, load_maker, write_tiny_vivit

import qora_vision
from qora_vision.cli.app import build_parser, main

TEST_COMMAND = "bash tools/run_tests.sh"
FIRST_COMMAND = "bash tools/quickstart.sh"


def shell_lines(page: str) -> list[str]:
    """Lines of a page's fenced shell blocks."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:sh|bash|console)\n(.*?)```", text, re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines()]


def script_lines(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def test_readme_has_the_two_commands() -> None:
    commands = shell_lines("README.md")
    assert commands.count(FIRST_COMMAND) == 1
    assert commands.count(TEST_COMMAND) == 1


@pytest.mark.parametrize("page", ["README.md", "docs/guide.md", "CONTRIBUTING.md"])
def test_command_lines_in_the_pages_parse(page: str) -> None:
    for line in shell_lines(page):
        if line.startswith("qora-vision "):
            build_parser().parse_args(shlex.split(line, comments=True)[1:])


def headings(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" in target:
                continue
            name, _, anchor = target.partition("#")
            path = page.parent / name if name else page
            assert path.exists(), f"{page.relative_to(ROOT)} links to {target}"
            assert not anchor or anchor in headings(path), f"{page.relative_to(ROOT)} links to {target}"


def test_ci_runs_the_readmes_test_command() -> None:
    commands = [line for line in script_lines(ROOT / ".ci" / "run") if line.startswith("bash tools/")]
    assert commands[0] == TEST_COMMAND
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    everywhere = re.findall(r"run: (bash tools/\S+)", workflow)
    assert everywhere[:2] == [TEST_COMMAND, FIRST_COMMAND]
    assert set(commands) <= set(everywhere)


def test_quickstart_gives_true_answers_on_what_ships(capsys, tmp_path: Path) -> None:
    """Its commands, on the trained model and the real clips that ship."""
    commands = [
        shlex.split(line)[1:]
        for line in script_lines(ROOT / "tools" / "quickstart.sh")
        if line.startswith("qora-vision ")
    ]
    assert [command[0] for command in commands] == ["classify", "demo"]
    clip = ROOT / commands[0][1]
    assert main(["classify", str(clip), *commands[0][2:], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == "camera-motion"
    assert found["predictions"][0]["label"] == "static"
    output = tmp_path / Path(commands[1][2]).name
    assert main(["demo", "-o", str(output), "--json"]) == 0
    assert output.stat().st_size > 100_000
    segments = json.loads(capsys.readouterr().out)["segments"]

    def labels_between(start: float, end: float) -> set[str]:
        return {each["label"] for each in segments if each["start"] < end and each["end"] > start}

    # What the film shows (assets/README.md); the dissolve from 5 to 6 s is none of the classes.
    assert labels_between(0.0, 4.5) == {"static"}
    assert labels_between(6.5, 7.4) == {"static"}
    assert "cut" in labels_between(8.0, 8.1)
    assert labels_between(8.8, 9.6) == {"zoom out"}


def test_bundled_models_are_small_and_whole() -> None:
    (model,) = qora_vision.list_bundled()
    assert model.name == "camera-motion"
    assert model.info().file_size <= 3_000_000
    labels = "static, pan left, pan right, tilt up, tilt down, zoom in, zoom out, roll clockwise"
    assert model.info().labels == [*labels.split(", "), "roll counterclockwise", "shake", "cut"]


def test_kinetics_labels_are_400_distinct_lines() -> None:
    labels = (ROOT / "python/qora_vision/assets/kinetics400.txt").read_text(encoding="utf-8").splitlines()
    assert len(labels) == len(set(labels)) == 400
    assert labels[0] == "abseiling"
    assert labels[-1] == "zumba"


def test_random_checkpoint_has_the_shapes_of_vivit_b() -> None:
    maker = load_maker()
    shapes = maker.tensor_shapes(maker.VIVIT_B, 400)
    assert len(shapes) == 200
    # transformers' VivitForVideoClassification of the same config counts as many parameters.
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 88_954_000
    assert shapes["vivit.embeddings.position_embeddings"] == (1, 3137, 768)


def test_random_checkpoint_repeats_and_is_complete(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tiny_vivit(tmp_path / name, ["left", "right", "up"], seed=7)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]
    tensors = load_file(tmp_path / "a" / "model.safetensors")
    assert {name: tensor.shape for name, tensor in tensors.items()} == load_maker().tensor_shapes(CONFIG, 3)
    described = json.loads((tmp_path / "a" / "config.json").read_text(encoding="utf-8"))
    assert described["id2label"] == {"0": "left", "1": "right", "2": "up"}
    assert not list(tmp_path.rglob("*.part"))
