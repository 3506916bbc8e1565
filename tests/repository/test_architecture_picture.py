"""The picture in docs/architecture.md is what the imports show (tools/draw_architecture.py)."""

from __future__ import annotations

import pytest
from draw_architecture import floors_of, main, svg, without_shortcuts

EDGES = {"top": {"left", "ground"}, "left": {"ground"}, "right": set(), "ground": set()}


def test_the_picture_shows_the_imports(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().out


def test_a_room_stands_above_what_it_imports() -> None:
    assert floors_of(EDGES) == {"top": 2, "left": 1, "right": 0, "ground": 0}


def test_an_arrow_that_follows_from_others_is_left_out() -> None:
    assert without_shortcuts(EDGES) == EDGES | {"top": {"left"}}
    assert svg(EDGES, dict.fromkeys(EDGES, "")).count("marker-end") == 2


def test_rooms_that_import_each_other_have_no_floors() -> None:
    with pytest.raises(ValueError, match="imports itself"):
        floors_of({"a": {"b"}, "b": {"a"}})
