"""The benchmarks' own arithmetic, and that their programs run. Times decide nothing here."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT

from qora_vision import _core

sys.path.insert(0, str(ROOT))

from benchmarks import measuring, peers, scaling_model
from benchmarks.runtimes import RUNTIMES, Unavailable
from benchmarks.tracing import Call, tracing
from benchmarks.workers import Worker
from tools.make_random_vivit import VIVIT_B, write_checkpoint

from qora_vision.engine.ops import Engine


def test_interleaving_gives_every_action_its_turn_in_every_round():
    order: list[str] = []
    runs = measuring.interleave({name: lambda name=name: order.append(name) for name in "abc"}, rounds=2)
    assert order == list("abc") * 3  # the first round warms up
    assert {name: len(seconds) for name, seconds in runs.items()} == {"a": 2, "b": 2, "c": 2}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0012345, "0.00123"), (1.5, "1.50"), (98765.4, "98765"), (0.0, "0.00"), (None, "-")],
)
def test_figures_have_three_digits(value, text):
    assert measuring.figure(value) == text


def test_comparison_is_with_the_peer_of_the_least_median():
    def row(least: float, median: float) -> dict[str, float]:
        return {"min [s]": least, "median [s]": median}

    forward = {"qora-vision q4 auto": row(1, 2), "A": row(2, 8), "B": row(3, 4)}
    found = peers.compare(forward)
    assert found["best peer"] == "B"
    assert found["time / best peer"]["qora-vision q4 auto"] == pytest.approx(
        {"min [s]": 1 / 3, "median [s]": 0.5}
    )
    assert peers.compare({"qora-vision q4 auto": row(1, 2)}) == {}
    # Neither one that is wrong nor one that uses more of the CPU.
    forward["C"] = row(1, 1) | {"logit error": float("nan")}
    assert peers.compare(forward)["best peer"] == "B"
    assert peers.compare(forward, free=["B"])["best peer"] == "A"


def test_logit_errors_are_relative_to_the_reference():
    logits = {"PyTorch fp32": np.array([1.0, -4.0]), "other": np.array([1.0, -3.0])}
    assert peers.logit_errors(logits) == {"PyTorch fp32": 0.0, "other": 0.25}


def test_the_model_has_the_constants_of_the_ops():
    for isa in _core.available_isas():
        table = _core.table_info(isa)
        of_tiles = scaling_model.MAX_BLOCK_TILES * table["mr"]["i8"]
        assert table["linear_block_rows"]["i8"] == max(scaling_model.MAX_BLOCK_ROWS, of_tiles)
        assert table["attention_block_queries"] == scaling_model.BLOCK_QUERIES
    source = (ROOT / "csrc" / "ops" / "linear" / "linear.cpp").read_text()
    assert re.search(r"kItemsPerThread = (\d+);", source)[1] == str(scaling_model.ITEMS_PER_THREAD)


def test_items_cover_the_work_and_balance_is_what_it_says():
    assert sum(scaling_model.row_blocks(3137, 6, 32)) == 3137
    assert sum(scaling_model.linear_items(100, 130, 6, 64, 8)) == 100 * 3
    assert sum(scaling_model.attention_items(6, 100, 6, 4)) == 600
    assert scaling_model.attention_items(1, 197, 6, 1) == [66.0, 66.0, 65.0]
    assert scaling_model.attention_items(1, 197, 6, 2) == [48.0, 48.0, 48.0, 53.0]
    assert max(scaling_model.row_blocks(393, 6, 2)) == 42 and len(scaling_model.row_blocks(393, 6, 2)) == 10
    assert scaling_model.row_blocks(7, 6, 8) == [6, 1]
    assert scaling_model.balance([1.0] * 8, 4) == 1.0
    assert scaling_model.balance([1.0] * 5, 4) == pytest.approx(5 / 8)


def test_one_thread_is_predicted_to_take_what_it_took():
    calls = [
        Call("linear", "i8", 0.0, (3137, 768, 2304), 0.5),
        Call("attention", "f32", 0.0, (1, 3137, 3137, 12, 64), 1.0),
        Call("mlp", "i8", 0.0, (3137, 768, 3072), 0.7),
    ]
    machine = scaling_model.Machine(1e-5, 64, {"i8": 6, "f32": 6})
    alone = scaling_model.predict(calls, 2.3, 0.05, machine, 1)
    assert alone.seconds == pytest.approx(2.3)
    assert alone.efficiency == pytest.approx(1.0)
    many = scaling_model.predict(calls, 2.3, 0.05, machine, 32)
    assert many.seconds == pytest.approx(many.ideal - 0.1 / 32 + many.imbalance + many.barriers + many.serial)
    assert many.serial == pytest.approx(0.1)


def test_traces_name_ops_and_count_operations():
    engine = Engine("exact", threads=1)
    weight = engine.pack([np.ones((5, 3), np.float32)], [None])
    out = np.empty((2, 5), np.float32)
    with tracing() as calls:
        engine.linear(np.ones((2, 3), np.float32), weight, out)
    engine.linear(np.ones((2, 3), np.float32), weight, out)
    assert [(call.op, call.family, call.operations, call.shape) for call in calls] == [
        ("linear", "f32", 60.0, (2, 3, 5))
    ]


def test_traces_count_every_kind_of_attention():
    engine = Engine("exact", threads=1)
    q, k = np.ones((2, 6, 3, 16), np.float32), np.ones((2, 4, 3, 16), np.float32)
    tokens = np.ones((1, 7, 3, 16), np.float32)  # a grid of 2 x 3, and what fills it up
    bias = np.zeros((63, 3), np.float32)
    windows = {"grid": (1, 2, 3), "window": (4, 2, 2), "shift": (0, 0, 0)}
    with tracing() as calls:
        engine.attention(q, k, k, np.empty((12, 48), np.float32))
        engine.short_attention(q, k, k, np.empty_like(q))
        engine.window_attention(tokens, tokens, tokens, bias, np.empty((6, 48), np.float32), **windows)
    assert [(call.op, call.family, call.operations, call.shape) for call in calls] == [
        ("attention", "f32", 4.0 * 2 * 6 * 4 * 48, (2, 6, 4, 3, 16)),
        ("short_attention", "f32", 4.0 * 2 * 6 * 4 * 48, (2, 6, 4, 3, 16)),
        ("window_attention", "f32", 4.0 * 6 * 4 * 48, (1, 6, 4, 3, 16)),
    ]


def test_results_are_json_whatever_a_peer_computes(tmp_path):
    arguments = measuring.make_parser("").parse_args(["--json", str(tmp_path / "new" / "results.json")])
    results = {"forward": [{"logit error": float("nan"), "min [s]": 0.5}], "peaks": (float("inf"), 1)}
    measuring.finish(results, "a report", arguments, lambda *_: None)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    read = json.loads(arguments.json.read_text(encoding="utf-8"), parse_constant=refuse)
    assert read == {"forward": [{"logit error": "nan", "min [s]": 0.5}], "peaks": ["inf", 1]}


def test_results_are_reported_and_drawn(tmp_path):
    pytest.importorskip("matplotlib")

    def row(seconds: float, peak: float | None) -> dict[str, float | None]:
        return {
            "min [s]": seconds,
            "median [s]": seconds,
            "peak [MB]": peak,
            "load [s]": 1.0,
            "logit error": 0.0,
        }

    forward = {"qora-vision q4 auto": row(0.5, 80.0), "PyTorch fp32": row(2.0, None)}
    results = {
        "model": "a model",
        "machine": measuring.describe_machine(2),
        "peaks": {"f32 [GOP/s]": 100.0},
        "versions": {"PyTorch": {"torch": "2"}},
        "forward": forward,
        "comparison": peers.compare(forward),
        "left out": {"OpenVINO fp32": "openvino is not installed"},
    }
    text = peers.report(results)
    assert "| qora-vision q4 auto | 0.500 |    0.500 |" in text
    assert "0.25 / 0.25" in text
    assert "left out: OpenVINO fp32 (openvino is not installed)" in text
    peers.draw(results, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").stat().st_size > 5000


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[Path, Path]:
    """A checkpoint of a tiny ViViT and a clip for it."""
    config = VIVIT_B | {
        "image_size": 32,
        "num_frames": 4,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    write_checkpoint(tmp_path / "tiny", config, ["a", "b", "c"])
    (tmp_path / "tiny" / "case.json").write_text("{}")
    np.save(tmp_path / "pixels.npy", np.zeros((1, 4, 3, 32, 32), np.float32))
    return tmp_path / "tiny", tmp_path / "pixels.npy"


def test_a_worker_answers_turns(tiny, monkeypatch):
    monkeypatch.setattr("benchmarks.workers.BUILD", tiny[0])
    worker = Worker("qora-vision", "q8 auto", *tiny, threads=1, turn_seconds=0.01)
    try:
        worker.start(60)
        worker.turn()
        assert worker.runs and all(seconds > 0 for seconds in worker.runs)
        assert worker.logits().shape == (1, 3)
        assert worker.facts["versions"]["qora-vision"]
    finally:
        worker.stop()


def test_a_worker_says_why_it_cannot_run(tiny, monkeypatch):
    monkeypatch.setattr("benchmarks.workers.BUILD", tiny[0])
    (tiny[0] / "config.json").write_text(json.dumps({"model_type": "unheard-of"}))
    with pytest.raises(Unavailable, match="unheard-of"):
        Worker("qora-vision", "q4 auto", *tiny, threads=1).start(60)


@pytest.mark.parametrize("module", RUNTIMES.values())
def test_every_runtime_offers_what_the_workers_ask_for(module):
    runtime = __import__(module, fromlist=["CONFIGURATIONS"])
    assert runtime.CONFIGURATIONS and runtime.PACKAGES
    assert isinstance(runtime.HELD, str)
    assert all(isinstance(value, str) for value in runtime.environment(2, "avx2").values())
