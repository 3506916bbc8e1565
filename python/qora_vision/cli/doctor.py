"""`qora-vision doctor`: report the CPU, the installation and its problems."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
from typing import Any

import qora_vision
from qora_vision.cli.options import Verbs, add_json_option, new_parser
from qora_vision.cli.output import count_of, print_error, print_fields, print_json

DESCRIPTION = """\
Show the CPU, the instruction sets that the engine found and the one it chose,
threads, versions, and the codecs of each video decoder. Problems are printed on
stderr, and the exit status is then 1.
"""

EPILOG = """\
examples:
  qora-vision doctor
  QORA_VISION_ISA=avx2 qora-vision doctor
  qora-vision doctor --json

Please include this output in a bug report.
"""

PACKAGES = ("numpy", "av", "safetensors", "tqdm", "huggingface_hub")
ENVIRONMENT = (
    "QORA_VISION_DECODER",
    "QORA_VISION_ISA",
    "QORA_VISION_NUM_THREADS",
    "QORA_VISION_MODEL",
    "OMP_NUM_THREADS",
)


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the console script."""
    parser = new_parser(
        verbs, "doctor", summary="check CPU and installation", description=DESCRIPTION, epilog=EPILOG
    )
    add_json_option(parser, "the same as a JSON object")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Collect and print the report; fail if there is a problem."""
    problems: list[str] = []
    cpu = _cpu(problems)
    decoders = qora_vision.list_decoders()
    problems += [f"{decoder.name}: {decoder.problem}" for decoder in decoders if decoder.problem]
    report: dict[str, Any] = {
        "cpu": cpu,
        "platform": platform.platform(),
        "versions": _versions(),
        "decoders": [decoder.to_dict() for decoder in decoders],
        "bundled_models": [model.name for model in qora_vision.list_bundled()],
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        "problems": problems,
    }
    if arguments.json:
        print_json(report)
    else:
        _print(report)
    for problem in problems:
        print_error(problem)
    return 1 if problems else 0


def _cpu(problems: list[str]) -> dict[str, Any] | None:
    """Describe the CPU; None, with an entry in `problems`, if the engine refuses to run."""
    try:
        return {**qora_vision.cpu_info(), "cpus": os.cpu_count() or 1}
    except qora_vision.QoraVisionError as error:
        problems.append(str(error))
        return None


def _versions() -> dict[str, str]:
    """Versions of qora-vision, of Python and of every package it needs."""
    versions = {"qora-vision": qora_vision.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed under this name"
    return versions


def _decoder(decoder: dict[str, Any]) -> str:
    """One line: name, version, codecs."""
    note = " (default)" if decoder["default"] else ""
    if decoder["problem"]:
        return f"{decoder['name']}{note}: cannot be used"
    codecs = " ".join(decoder["codecs"]) or "no codec that was tried"
    return f"{decoder['name']}{note}, {decoder['version']}: {codecs}"


def _print(report: dict[str, Any]) -> None:
    """Print the report for people."""
    cpu = report["cpu"]
    fields = []
    if cpu is not None:
        origin = "OpenMP" if cpu["openmp"] else "own pool"
        fields = [
            ("CPU", f"{cpu['name'] or 'unknown'}, {count_of(cpu['cpus'], 'logical CPU')}"),
            ("Instruction sets", ", ".join(cpu["isas"])),
            ("Chosen", cpu["isa"]),
            ("Threads", f"{cpu['threads']} ({origin})"),
        ]
        if cpu["refused"]:
            fields.insert(2, ("Refused", "\n".join(f"{isa}: {why}" for isa, why in cpu["refused"].items())))
    fields += [
        ("Platform", report["platform"]),
        ("Versions", "\n".join(f"{name} {version}" for name, version in report["versions"].items())),
        ("Decoders", "\n".join(_decoder(each) for each in report["decoders"])),
        ("Bundled models", ", ".join(report["bundled_models"]) or "none"),
    ]
    if report["environment"]:
        fields.append(("Environment", "\n".join(f"{k}={v}" for k, v in report["environment"].items())))
    print_fields(fields)
