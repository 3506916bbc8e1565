"""Failures of the console script: exit statuses, messages, interruption, pipes, terminals."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
from builds import WRITES_GIF
from paths import CLIP, ROOT

import qora_vision
from qora_vision import _core
from qora_vision.cli import main
from qora_vision.cli.app import build_parser


def run_script(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    """Run the console script in a process of its own."""
    command = [sys.executable, "-c", "import sys; from qora_vision.cli import main; sys.exit(main())"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "classify",
        "nonsense",
        "vivit",
        "vivit --video a.mp4",
        "vivit --load a.qora-vision",
        "vivit --video a.mp4 --frames b --load c",
        "vivit --video a.mp4 --load c --model-path d",
        "vivit --video a.mp4 --load c --f16",
        "vivit --video {frames} --load c",
        "vivit --frames {clip} --load c",
        "classify a.mp4 --model m --top-k 0",
        "classify a.mp4 --model m --min-score nan",
        "classify a.mp4 --model m --top-k five",
        "classify a.mp4 --model m --threads -1",
        "classify a.mp4 --model m --views 4",
        "classify a.mp4 --model m --views 0x3",
        "classify a.mp4 --model m --stride 2",
        "classify a.mp4 --model m --weights q3",
        "classify a.mp4 --mod m",
        "classify {clip} --model {model} --top-k 8",
        "convert src",
        "compare {model} --video {clip}",
        "compare {model} {model} --video {clip}",
        "compare {model} other",
        "compare --video {clip}",
        "compare {model} --weights-b q3 --video {clip}",
        "info a b",
    ],
)
def test_wrong_usage_is_status_2(line: str, frames: Path, tiny_model_file: Path, capsys) -> None:
    words = [word.format(frames=frames, clip=CLIP, model=tiny_model_file) for word in line.split()]
    capsys.readouterr()
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: qora-vision")
    assert "error: " in err.splitlines()[-1]


@pytest.mark.parametrize("verb", ["demo", "compare", "vivit", "classify", "convert", "info", "doctor"])
def test_help_of_every_verb(verb: str, capsys) -> None:
    assert main([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"usage: qora-vision {verb}" in out
    assert f"examples:\n  qora-vision {verb}" in out


def test_examples_of_the_help_parse(capsys) -> None:
    """Every example of a help text is a command line that the parser accepts."""
    examples = []
    for verb in ("demo", "compare", "vivit", "classify", "convert", "info", "doctor"):
        main([verb, "--help"])
        lines = capsys.readouterr().out.split("examples:\n")[1].splitlines()
        examples += [line.strip() for line in lines if line.startswith("  qora-vision ")]
    assert len(examples) >= 10
    for example in examples:
        build_parser().parse_args(example.partition(" | ")[0].split()[1:])


def test_version(capsys) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"qora-vision {qora_vision.__version__}\n"


@pytest.mark.parametrize(
    "line",
    [
        "classify {clip} --model {tmp}/missing.qora-vision",
        "classify {clip} --model {clip}",
        "classify {clip} --model {tmp}",
        "vivit --video {tmp}/missing.mp4 --load {model}",
        "vivit --frames {tmp} --load {model}",
        "vivit --video {clip} --load {model} --save {tmp}/missing/a.qora-vision",
        "convert {tmp} -o {tmp}/a.qora-vision",
        "convert {model} -o {tmp}/missing/a.qora-vision",
        "info {tmp}/missing.qora-vision",
        "info {clip}",
        "info {tmp}",
    ],
)
def test_failures_are_status_1_and_say_why(line: str, tiny_model_file: Path, tmp_path: Path, capsys) -> None:
    capsys.readouterr()
    assert main(line.format(clip=CLIP, model=tiny_model_file, tmp=tmp_path).split()) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("qora-vision: error: ")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "qora-vision: interrupted\n"),
        (MemoryError(), 1, "qora-vision: error: out of memory\n"),
    ],
)
def test_interruption_is_one_line(
    error, status: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def load(*_arguments, **_options):
        raise error

    monkeypatch.setattr(qora_vision, "load", load)
    assert main(["classify", "a.mp4", "--model", "m"]) == status
    assert capsys.readouterr() == ("", said)


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_arguments, **_options):
        raise TypeError("a mistake")

    monkeypatch.setattr(qora_vision, "load", load)
    with pytest.raises(TypeError, match="a mistake"):
        main(["classify", "a.mp4", "--model", "m"])


@pytest.mark.skipif(os.name == "nt", reason="Windows reports a closed pipe in another way")
def test_a_reader_that_goes_away_is_no_error() -> None:
    command = [
        sys.executable,
        "-c",
        "import sys; from qora_vision.cli import main; sys.exit(main())",
        "doctor",
    ]
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert result.returncode == 141
    assert result.stderr == ""


@pytest.mark.skipif(os.name == "nt", reason="such names cannot be made on Windows")
def test_a_name_that_the_terminal_cannot_show(tiny_model_file: Path, frames: Path, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "caf") + b"\xe9"
    shutil.copytree(os.fsencode(frames), folder)
    result = run_script("classify", os.fsdecode(folder), "--model", str(tiny_model_file))
    assert result.returncode == 0
    assert result.stderr == ""
    assert len(result.stdout.splitlines()) == 6


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_shows_on_a_terminal_only(tiny_checkpoint: Path, frames: Path, monkeypatch, capsys) -> None:
    command = ["classify", str(frames), str(CLIP), "--model", str(tiny_checkpoint)]
    assert main(command) == 0
    expected, err = capsys.readouterr()
    assert err == ""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(command) == 0
    assert "clips:  50%|" in terminal.getvalue()
    assert terminal.getvalue().rstrip("\r").endswith(" ")  # erased
    assert capsys.readouterr().out == expected


def test_doctor_reports_an_instruction_set_that_does_not_exist() -> None:
    result = run_script("doctor", env={**os.environ, "QORA_VISION_ISA": "sse9"})
    assert result.returncode == 1
    assert "sse9" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Versions" in result.stdout


def test_doctor_says_what_the_system_refuses(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """That is no problem: the table below is used."""
    refused = [{**isa, "refusal": "no such luck" * (isa["name"] == "avx2")} for isa in _core.known_isas()]
    monkeypatch.setattr("qora_vision.engine.ops._core.known_isas", lambda: refused)
    assert main(["doctor"]) == 0
    assert re.search(r"^Refused +avx2: no such luck$", capsys.readouterr().out, re.MULTILINE)


def test_doctor_reports_an_opencv_that_reads_no_video(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(cv2.videoio_registry, "getStreamBackends", list)
    assert main(["doctor"]) == 1
    assert "opencv-python" in capsys.readouterr().err


def test_ctrl_c_while_libraries_load_has_no_traceback(tmp_path: Path) -> None:
    """NumPy loads for a noticeable time; here Ctrl-C comes as soon as it starts to."""
    entry = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'qora-vision = "qora_vision_launcher:main"' in entry
    (tmp_path / "numpy.py").write_text("raise KeyboardInterrupt\n", encoding="utf-8")
    command = [sys.executable, "-c", "import sys; from qora_vision_launcher import main; sys.exit(main())"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "qora-vision: interrupted\n")
    plain = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    assert plain.stdout == f"qora-vision {qora_vision.__version__}\n"


@pytest.mark.skipif(os.name == "nt", reason="such names cannot be made on Windows")
def test_a_name_that_is_no_utf8_is_read_and_written(tiny_bundled: Path, tmp_path: Path) -> None:
    """OpenCV ends the process when it gets such a name."""
    source = os.fsdecode(os.fsencode(tmp_path) + b"/vid\xe9o.mkv")
    shutil.copy(CLIP, source)
    result = run_script("classify", source, str(CLIP), "--model", str(tiny_bundled))
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 12
    for suffix in (b".mp4", b".gif") if WRITES_GIF else (b".mp4",):
        output = os.fsdecode(os.fsencode(tmp_path) + b"/\xe9" + suffix)
        result = run_script("demo", source, "--model", str(tiny_bundled), "-o", output)
        assert result.returncode == 0, result.stderr
        assert Path(output).stat().st_size > 1000


def test_a_pipe_is_not_read_twice(capsys) -> None:
    assert main(["demo", "-", "-o", "a.mp4"]) == 2
    assert "cannot be read a second time" in capsys.readouterr().err


# What a machine without libGL.so.1 makes of `import cv2`.
NO_OPENCV = "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')\n"


def test_without_libgl_only_what_needs_opencv_fails(tmp_path: Path, frames: Path) -> None:
    (tmp_path / "cv2.py").write_text(NO_OPENCV, encoding="utf-8")
    places = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    options = {"env": {**os.environ, "PYTHONPATH": places}}
    assert run_script("--help", **options).returncode == 0
    assert run_script("classify", str(CLIP), **options).returncode == 0
    for line in ("doctor", f"classify {frames}", f"demo {CLIP} -o {tmp_path}/a.mp4"):
        result = run_script(*line.split(), **options)
        assert result.returncode == 1, line
        last = result.stderr.splitlines()[-1]
        assert last.startswith("qora-vision: error: ") and "Traceback" not in result.stderr
        assert "libgl1 and libglib2.0-0" in last and "opencv-python-headless" in last


def test_importing_the_package_loads_no_decoder() -> None:
    code = "import sys, qora_vision; from qora_vision.cli.app import build_parser; build_parser(); "
    code += "print([name for name in ('av', 'cv2') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_interrupt_that_python_would_forget(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where it comes between PyAV and the callback that PyAV calls."""

    class Interrupted:
        def __del__(self) -> None:
            raise KeyboardInterrupt

    def load(*_: object, **__: object) -> None:
        item = Interrupted()
        del item
        for _ in range(3000):
            time.sleep(0.01)

    monkeypatch.setattr(qora_vision, "load", load)
    hook = sys.unraisablehook
    assert main(["classify", str(CLIP)]) == 130
    assert capsys.readouterr().err == "qora-vision: interrupted\n"
    assert sys.unraisablehook is hook
