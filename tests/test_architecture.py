"""The arrows of docs/architecture.md, read from the source: who may import and include whom."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "qora_vision"
NATIVE = ROOT / "csrc"
MAX_LINES = 400

# Module (or package, with everything below it) -> what of our own package it may import. The longest name
# that fits decides; "*" is everything but the console script. A new module needs a row here.
PYTHON_ARROWS: dict[str, set[str]] = {
    "": {"*"},
    "errors": set(),
    "_core": set(),
    "ops": {"_core", "errors", "weights.tensors"},
    "layers": {"ops", "errors", "weights.tensors"},
    "models": {"models", "layers", "ops", "errors", "weights.tensors"},
    "video": {"video", "_core", "errors"},
    "weights": {"weights", "errors"},
    "weights.convert": {"weights", "models", "ops", "errors"},
    "assets": set(),
    "prediction": {"errors"},
    "conversion": {"weights", "ops", "layers", "errors"},
    "loading": {"conversion", "weights", "models", "layers", "ops", "video", "errors"},
    "hub": {"hub", "weights.atomic_file", "errors"},
    "fetching": {"bundled", "hub", "loading", "weights", "errors"},
    "bundled": {"loading", "weights", "errors"},
    "calibration": {"calibration", "conversion", "loading", "models", "ops", "video", "weights", "errors"},
    "streaming": {"classifier", "prediction", "models", "video"},
    "classifier": {"calibration", "fetching", "hub", "loading", "prediction"}
    | {"weights", "models", "ops", "video", "errors"},
    "comparison": {"classifier", "prediction"},
    "segments": {"prediction"},
    "annotation": {"segments", "video", "weights.atomic_file", "errors"},
    "cli": {"", "cli"},
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


def row_of(module: str) -> str | None:
    """The key of PYTHON_ARROWS that decides for a module."""
    fitting = [row for row in PYTHON_ARROWS if (is_within(module, row) if row else not module)]
    return max(fitting, key=len, default=None)


def is_allowed(target: str, allowed: set[str]) -> bool:
    if "*" in allowed and not is_within(target, "cli"):
        return True
    return any(is_within(target, name) if name else not target for name in allowed)


def python_faults(sources: dict[str, tuple[str, bool]]) -> list[str]:
    """What breaks the arrows, for {module: (source, is a package)}."""
    faults = []
    for module, (source, is_package) in sources.items():
        row = row_of(module)
        if row is None:
            faults.append(f"{module}: no row in PYTHON_ARROWS says what it may import")
            continue
        for line, target in own_imports(source, module, is_package, set(sources) | {"_core"}):
            if not is_allowed(target, PYTHON_ARROWS[row]):
                faults.append(
                    f"{module}:{line} imports {target or 'qora_vision'}: {row or 'the top'} may not"
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
        ("video.decode", "def later():\n    import qora_vision.classifier"),
        ("models.vivit", "from qora_vision import _core"),
        ("ops", "from qora_vision.layers import linear"),
        ("cli.classify", "from qora_vision.errors import QoraVisionError"),
        ("cli.classify", "from ..classifier import load"),
        ("classifier", "from qora_vision.cli import main"),
        ("utils", "import json"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str) -> None:
    others = ("models", "models.vivit", "weights", "video", "layers", "classifier", "cli", "errors")
    sources = {name: ("", False) for name in others} | {module: (source, False)}
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
