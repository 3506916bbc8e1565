"""Processes that each hold one runtime in one configuration, so that none shares memory or threads."""

from __future__ import annotations

import importlib
import json
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import BUILD, ROOT
from benchmarks.runtimes import RUNTIMES, Unavailable

# Threads of a runtime may spin for a while after its turn, waiting for more work.
REST_SECONDS = 0.3


class Worker:
    """One configuration of one runtime, in a process of its own.

    Parameters
    ----------
    runtime, configuration
        Names of `RUNTIMES` and of that module's `CONFIGURATIONS`.
    checkpoint, pixels
        The model's directory, and a file with the (1, T, C, H, W) float32 clip.
    threads
        Threads of the forward pass.
    isa
        The instruction set that the runtime is limited to by its own settings; None: all that the CPU has.
    turn_seconds
        How long a turn lasts; it has one forward pass at least.
    patience
        Seconds that an answer may take.
    """

    def __init__(
        self,
        runtime: str,
        configuration: str,
        checkpoint: Path,
        pixels: Path,
        threads: int,
        isa: str | None = None,
        turn_seconds: float = 0.5,
        patience: float = 60.0,
    ) -> None:
        self.name = f"{runtime} {configuration}"
        self.runtime = runtime
        self.configuration = configuration
        self.runs: list[float] = []
        self.facts: dict[str, Any] = {}
        self._patience = patience
        slug = "".join(c if c.isalnum() else "-" for c in self.name)
        self._logits = BUILD / f"logits-{slug}.npy"
        self._task = {
            "runtime": runtime,
            "configuration": configuration,
            "checkpoint": str(checkpoint),
            "pixels": str(pixels),
            "threads": threads,
            "turn_seconds": turn_seconds,
            "logits": str(self._logits),
        }
        own = importlib.import_module(RUNTIMES[runtime]).environment(threads, isa)
        self._environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"} | own
        self._log = BUILD / f"{slug}.log"
        self._process: subprocess.Popen[str] | None = None

    def start(self, prepare_patience: float) -> None:
        """Convert the model, load it and run it once.

        Raises
        ------
        Unavailable
            With the reason why this configuration cannot be run here, or took too long.
        """
        self._spawn("prepare")
        self.facts = self._answer(prepare_patience)
        self.stop()
        self._spawn("run")
        self.facts |= self._answer(prepare_patience)
        if self.facts["first forward [s]"] > self._patience:
            # A first pass may compile; the second decides.
            self.turn()
            self.runs.clear()

    def turn(self) -> None:
        """Run forward passes for one turn."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        answer = self._answer(self._patience)
        self.runs += answer["runs"]
        self.facts["peak [MB]"] = answer["peak [MB]"]
        time.sleep(REST_SECONDS)

    def logits(self) -> np.ndarray:
        """Return the logits of the first forward pass."""
        return np.load(self._logits)

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None

    def _spawn(self, step: str) -> None:
        command = [sys.executable, "-m", "benchmarks.serve", json.dumps(self._task | {"step": step})]
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def _answer(self, patience: float) -> dict[str, Any]:
        process = self._process
        assert process is not None and process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            ready = selector.select(patience)
        if not ready:
            self.stop()
            raise Unavailable(f"no answer within {patience:g} s")
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            self.stop()
            raise Unavailable(f"the process ended with status {code}; {self._log} has what it said")
        answer: dict[str, Any] = json.loads(line)
        if "unavailable" in answer:
            self.stop()
            raise Unavailable(answer["unavailable"])
        return answer
