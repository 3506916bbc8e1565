"""`qora-vision doctor`: what this machine offers, and what is wrong with it."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
from typing import Any

import cv2

import qora_vision
from qora_vision.cli.options import Verbs, add_json_option, new_parser
from qora_vision.cli.output import count_of, print_error, print_fields, print_json

DESCRIPTION = """\
Show the CPU, the instruction sets that the engine found and the one it chose,
threads, versions, and what OpenCV can decode video with. Something wrong is
reported on stderr, and the exit status is then 1.
"""

EPILOG = """\
examples:
  qora-vision doctor
  QORA_VISION_ISA=avx2 qora-vision doctor
  qora-vision doctor --json

Please paste its output into a bug report.
"""

PACKAGES = ("numpy", "opencv-python", "safetensors", "tqdm", "huggingface_hub")
ENVIRONMENT = ("QORA_VISION_ISA", "QORA_VISION_NUM_THREADS", "QORA_VISION_MODEL", "OMP_NUM_THREADS")


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the console script."""
    parser = new_parser(
        verbs, "doctor", summary="show what this machine offers", description=DESCRIPTION, epilog=EPILOG
    )
    add_json_option(parser, "the same as a JSON object")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Look, print, and fail if something is wrong."""
    problems: list[str] = []
    cpu = _cpu(problems)
    backends = [
        cv2.videoio_registry.getBackendName(each) for each in cv2.videoio_registry.getStreamBackends()
    ]
    if "FFMPEG" not in backends:
        problems.append("this build of OpenCV has no FFmpeg and reads few videos: pip install opencv-python")
    report: dict[str, Any] = {
        "cpu": cpu,
        "platform": platform.platform(),
        "versions": _versions(),
        "video_backends": backends,
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
    """Ask the engine about the CPU; None, and a problem, when it refuses to run."""
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
    fields += [
        ("Platform", report["platform"]),
        ("Versions", "\n".join(f"{name} {version}" for name, version in report["versions"].items())),
        ("Video backends", ", ".join(report["video_backends"]) or "none"),
        ("Bundled models", ", ".join(report["bundled_models"]) or "none"),
    ]
    if report["environment"]:
        fields.append(("Environment", "\n".join(f"{k}={v}" for k, v in report["environment"].items())))
    print_fields(fields)
