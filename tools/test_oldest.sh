#!/usr/bin/env bash
# Runs the tests with the oldest version of each dependency that pyproject.toml states, in build/oldest. PYTHON names
# the interpreter (default: python3.10, the oldest, or else python3). OLDEST_EXCEPT="av==17.1.0 ..." puts other
# versions in the place of some. Arguments go to pytest. What compares with PyTorch is skipped, and says so.
set -euo pipefail
cd "$(dirname "$0")/.."
unset PYTHONPATH # what is installed is tested

python=""
for name in ${PYTHON:-python3.10 python3 python}; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
        python="$name"
        break
    fi
done
if [ -z "$python" ]; then
    echo "no Python 3.10 or later found (looked for ${PYTHON:-python3.10, python3, python}): set PYTHON to one" >&2
    exit 1
fi

echo "== installing the oldest dependencies in build/oldest, for $("$python" --version)" >&2
"$python" -m venv --clear build/oldest/venv
. build/oldest/venv/bin/activate 2>/dev/null || . build/oldest/venv/Scripts/activate
export PIP_DISABLE_PIP_VERSION_CHECK=1
python tools/oldest_versions.py >build/oldest/requirements.txt
for pin in ${OLDEST_EXCEPT:-}; do
    sed -i.before "s/^${pin%%==*}==.*/$pin/" build/oldest/requirements.txt
done
cat build/oldest/requirements.txt >&2
python -m pip install --quiet -r build/oldest/requirements.txt
# Without isolation nobody brings these.
command -v cmake >/dev/null || python -m pip install --quiet cmake
command -v ninja >/dev/null || python -m pip install --quiet ninja
python -m pip install --quiet --no-deps --no-build-isolation --config-settings=build-dir="build/oldest/cmake-{wheel_tag}" .

echo "== pytest" >&2
python -m pytest "$@"
