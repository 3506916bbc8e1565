"""The arrows of docs/architecture.md, read from the source: who may import and include whom."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT

PACKAGE = ROOT / "python" / "qora_vision"
NATIVE = ROOT / "csrc"
MAX_LINES = 400

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


def python_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py")) + sorted(PACKAGE.rglob("*.pyi"))


def native_files() -> list[Path]:
    return sorted(path for path in NATIVE.rglob("*") if path.suffix in {".h", ".cpp"})


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    """`weights.format` for python/qora_vision/weights/format.py, the empty name for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def own_imports(source: str, module: str, is_package: bool, modules: set[str]) -> Iterator[tuple[int, str]]:
    """Lines and names of the modules of qora_vision that a source imports, wherever the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names if is_within(alias.name, "qora_vision")]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = ["qora_vision", *module.split(".")] if module else ["qora_vision"]
                kept = package[: len(package) - node.level + (1 if is_package else 0)]
                base = ".".join([*kept, base] if base else kept)
            if not is_within(base, "qora_vision"):
                continue
            # `from qora_vision.weights import format` names a module, `from qora_vision import load` none.
            below = [f"{base}.{alias.name}" for alias in node.names]
            targets = [name if name.removeprefix("qora_vision.") in modules else base for name in below]
        else:
            continue
        for target in targets:
            yield node.lineno, target.removeprefix("qora_vision").removeprefix(".")


def room_of(module: str) -> str:
    """The room that a module lies in: `weights` for `weights.format`."""
    return module.partition(".")[0]


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
    sources = {
        module_name(path): (path.read_text(encoding="utf-8"), path.name.startswith("__init__."))
        for path in python_files()
    }
    assert sources
    assert not python_faults(sources)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("weights.format", "from qora_vision.models import vivit"),
        ("weights.format", "from ..models.vivit import Vivit"),
        ("video.decode", "def later():\n    import qora_vision.tasks"),
        ("models.vivit", "from qora_vision import _core"),
        ("engine.ops", "from qora_vision.nn.layers import linear"),
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
        "nn.layers",
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


def test_source_files_stay_short() -> None:
    folders = ("python", "csrc", "tests", "tools", "benchmarks")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    long = {}
    for path in sources:
        if path.suffix in {".py", ".pyi", ".h", ".cpp", ".sh"}:
            lines = len(path.read_text(encoding="utf-8").splitlines())
            if lines >= MAX_LINES:
                long[relative(path)] = lines
    assert not long, f"split these, each has {MAX_LINES} lines or more: {long}"


def test_no_file_is_called_utils() -> None:
    names = {path.stem for path in [*python_files(), *native_files()]}
    assert not names & {"utils", "util", "helpers", "misc", "common"}
