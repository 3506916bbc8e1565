"""Find the imports between the rooms of python/qora_vision.

A room is a folder of the package. A module at its root is a room of its own, and "" is the package itself,
`__init__.py`. Nothing is imported to find out: sources are parsed.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "python" / "qora_vision"


def python_files() -> list[Path]:
    """List every source and stub of the package."""
    return sorted(PACKAGE.rglob("*.py")) + sorted(PACKAGE.rglob("*.pyi"))


def module_name(path: Path) -> str:
    """Name a module: `weights.format` for weights/format.py, the empty name for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_sources() -> dict[str, tuple[str, bool]]:
    """Read each module: its source, and whether it is a package."""
    return {
        module_name(path): (path.read_text(encoding="utf-8"), path.name.startswith("__init__."))
        for path in python_files()
    }


def is_within(module: str, package: str) -> bool:
    """Tell whether a module is a package or lies in it."""
    return module == package or module.startswith(f"{package}.")


def own_imports(source: str, module: str, is_package: bool, modules: set[str]) -> Iterator[tuple[int, str]]:
    """Find lines and names of the modules of qora_vision that a source imports, anywhere in it."""
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
    """Name the room that a module lies in: `weights` for `weights.format`."""
    return module.partition(".")[0]


def room_imports(sources: dict[str, tuple[str, bool]]) -> dict[str, set[str]]:
    """Find the other rooms that the modules of each room import."""
    modules = set(sources) | {"_core"}
    imports: dict[str, set[str]] = {room_of(module): set() for module in modules}
    for module, (source, is_package) in sources.items():
        for _, target in own_imports(source, module, is_package, modules):
            imports[room_of(module)].add(room_of(target))
    return {room: targets - {room} for room, targets in imports.items()}
