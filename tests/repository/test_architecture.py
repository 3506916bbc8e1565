"""The arrows of docs/architecture.md, read from the source: who may import and include whom."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest
from paths import ROOT
from python_imports import own_imports, python_files, read_sources, room_of

NATIVE = ROOT / "csrc"
MAX_CODE_LINES = 400

# Room -> the rooms below it that its files may import. A room is a folder of the package; a module at the
# root is a room of its own, and "" is the package itself, `__init__.py`.
PYTHON_ARROWS: dict[str, set[str]] = {
    "_core": set(),
    "errors": set(),
    "files": {"errors"},
    "engine": {"_core", "errors"},
    "nn": {"engine", "errors"},
    "weights": {"files", "engine", "errors"},
    "video": {"_core", "files", "errors"},
    "models": {"nn", "weights", "engine", "errors"},
    "loading": {"models", "nn", "weights", "video", "engine", "files", "errors"},
    "timeline": {"errors"},
    "tasks": {"loading", "timeline", "models", "weights", "video", "nn", "engine", "files", "errors"},
    "": {"tasks", "timeline", "loading", "weights", "video", "engine", "errors"},
    "cli": {""},
}

# Layer -> layers of csrc/ that it may include.
NATIVE_ARROWS = {
    "core": {"core"},
    "kernels": {"kernels", "core"},
    "ops": {"ops", "kernels", "core"},
    "bindings": {"bindings", "ops", "kernels", "core"},
}

INTRINSICS = re.compile(r"^(\w*intrin|arm_neon|arm_sve|arm_acle|cpuid|intrin)\.h$")
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)


def native_files() -> list[Path]:
    return sorted(path for path in NATIVE.rglob("*") if path.suffix in {".h", ".cpp"})


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def python_faults(sources: dict[str, tuple[str, bool]]) -> list[str]:
    """What breaks the arrows, for {module: (source, is a package)}."""
    faults = []
    for module, (source, is_package) in sources.items():
        room = room_of(module)
        if room not in PYTHON_ARROWS:
            faults.append(f"{module}: the package has no room '{room}' (PYTHON_ARROWS)")
            continue
        for line, target in own_imports(source, module, is_package, set(sources) | {"_core"}):
            if room_of(target) != room and room_of(target) not in PYTHON_ARROWS[room]:
                faults.append(
                    f"{module}:{line} imports {target or 'qora_vision'}: {room or 'the top'} may not"
                )
    return faults


def test_python_imports_follow_the_arrows() -> None:
    sources = read_sources()
    assert sources
    assert not python_faults(sources)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("weights.format", "from qora_vision.models import vivit"),
        ("weights.format", "from ..models.vivit import Vivit"),
        ("video.decode", "def later():\n    import qora_vision.tasks"),
        ("models.vivit", "from qora_vision import _core"),
        ("engine.ops", "from qora_vision.nn.linear import Linear"),
        ("cli.classify", "from qora_vision.errors import QoraVisionError"),
        ("cli.classify", "from ..tasks.classify import load"),
        ("tasks.classify", "from qora_vision.cli import main"),
        ("utils", "import json"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str) -> None:
    others = (
        "models",
        "models.vivit",
        "weights",
        "video",
        "nn.linear",
        "tasks",
        "tasks.classify",
        "cli",
        "errors",
    )
    sources = {name: ("", False) for name in (*others, "errors")} | {module: (source, False)}
    assert len(python_faults(sources)) == 1


def test_only_the_engine_knows_no_framework() -> None:
    """PyTorch and its friends stay out of the package, even inside functions."""
    banned = {"torch", "torchvision", "transformers", "tensorflow", "jax", "flax", "PIL"}
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            found = {name.partition(".")[0] for name in names} & banned
            assert not found, f"{relative(path)}:{node.lineno} imports {found}"


def included(path: Path) -> list[str]:
    return INCLUDE.findall(path.read_text(encoding="utf-8"))


def test_native_includes_follow_the_arrows() -> None:
    files = native_files()
    assert files
    for path in files:
        layer = path.relative_to(NATIVE).parts[0]
        assert layer in NATIVE_ARROWS, f"{relative(path)}: csrc/ has no layer '{layer}'"
        for name in included(path):
            candidates = [NATIVE / name, path.parent / name]
            found = next((candidate.resolve() for candidate in candidates if candidate.is_file()), None)
            if found is None:
                continue  # a header of the system, of Python or of pybind11
            target = found.relative_to(NATIVE).parts[0]
            assert target in NATIVE_ARROWS[layer], f"{relative(path)} includes {name}: {layer} may not"


def test_intrinsics_stay_in_the_kernels() -> None:
    for path in native_files():
        intrinsics = [name for name in included(path) if INTRINSICS.match(name)]
        is_home = path.relative_to(NATIVE).parts[0] == "kernels" or path.stem == "isa"
        assert is_home or not intrinsics, f"{relative(path)} includes {intrinsics}"


def test_openmp_stays_in_parallel() -> None:
    for path in native_files():
        source = path.read_text(encoding="utf-8")
        knows_openmp = "omp.h" in included(path) or re.search(r"^\s*#\s*pragma\s+omp", source, re.MULTILINE)
        assert not knows_openmp or relative(path) == "csrc/core/parallel.cpp", relative(path)


def test_python_bindings_stay_in_bindings() -> None:
    for path in native_files():
        foreign = [name for name in included(path) if name.startswith(("pybind11/", "Python.h"))]
        assert not foreign or path.relative_to(NATIVE).parts[0] == "bindings", f"{relative(path)}: {foreign}"


def test_the_build_asks_for_nothing_the_users_machine_may_lack() -> None:
    build = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    for flag in ("-march=native", "-mtune=native", "-ffast-math", "-Ofast", "/fp:fast", "-flto"):
        assert flag not in build, f"CMakeLists.txt has {flag}"


def code_lines(path: Path) -> int:
    """Lines of a source file that hold code: blank lines, comments and docstrings are not counted."""
    text = path.read_text(encoding="utf-8")
    if path.suffix not in {".py", ".pyi"}:
        text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL) if path.suffix != ".sh" else text
        comment = "#" if path.suffix == ".sh" else "//"
        return sum(bool(line.strip()) and not line.strip().startswith(comment) for line in text.splitlines())
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines: set[int] = set()
    for token in tokens:
        if token.type in {tokenize.NAME, tokenize.NUMBER, tokenize.OP, tokenize.STRING}:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and ast.get_docstring(node, clean=False) is not None:
                lines -= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return len(lines)


def test_source_files_stay_short() -> None:
    folders = ("python", "csrc", "tests", "tools", "benchmarks")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    kinds = {".py", ".pyi", ".h", ".cpp", ".inc", ".sh"}
    lines = {relative(path): code_lines(path) for path in sources if path.suffix in kinds}
    long = {name: count for name, count in lines.items() if count > MAX_CODE_LINES}
    assert not long, f"split these, each has more than {MAX_CODE_LINES} lines of code: {long}"


def test_only_code_counts_as_length(tmp_path: Path) -> None:
    python, native = tmp_path / "a.py", tmp_path / "a.h"
    python.write_text(
        '"""One.\n\nTwo."""\n\n# Three.\nx = """four\n\nfive"""  # six\n\n\ndef f():\n    """Seven."""\n'
    )
    assert code_lines(python) == 4
    native.write_text("// One.\n/* Two,\nthree. */\nint x;  // four\n\n")
    assert code_lines(native) == 1


def test_no_file_is_called_utils() -> None:
    names = {path.stem for path in [*python_files(), *native_files()]}
    assert not names & {"utils", "util", "helpers", "misc", "common"}
