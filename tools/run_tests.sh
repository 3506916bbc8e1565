#!/usr/bin/env bash
# Does all set-up (.venv, the package and its reference implementation) and runs every check and every test.
# Needs Python 3.10 or later and a C++17 compiler. Arguments go to pytest: tools/run_tests.sh -k resize
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/venv.sh

echo "== installing qora-vision and what its tests compare with" >&2
python -m pip install --quiet '.[test,reference,dev]'
# Beside the environment: see pytest_configure in tests/conftest.py.
export QORA_TORCHVISION="$VIRTUAL_ENV/torchvision-0.28.0"
[ -d "$QORA_TORCHVISION/torchvision" ] ||
    python -m pip install --quiet --no-deps --target "$QORA_TORCHVISION" 'torchvision==0.28.0'

echo "== ruff, mypy, clang-format" >&2
ruff check .
ruff format --check .
mypy
find csrc -name '*.h' -o -name '*.cpp' | xargs clang-format --dry-run -Werror

echo "== pytest" >&2
python -m pytest "$@"
