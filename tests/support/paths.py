"""Where tests find their files: in the repository, and beside it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
# Small files that tests need.
DATA = ROOT / "tests" / "data"
# A real clip: a man signs before a camera that stands still.
CLIP = ROOT / "examples" / "asl_eat.mkv"
# Larger real files; where the folder is absent, tests that need it are skipped.
SHARED = ROOT.parent / "shared" / "data"
