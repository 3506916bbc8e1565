#!/usr/bin/env bash
# Builds the engine with AddressSanitizer and UndefinedBehaviorSanitizer in build/sanitized and runs the tests of
# kernels and ops with it: any finding ends the run. Needs Linux and GCC with its sanitizer libraries. Arguments go to
# pytest instead of the list of tests.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/venv.sh

libraries=""
for name in asan ubsan; do
    library="$("${CXX:-g++}" -print-file-name="lib$name.so")"
    if [ ! -e "$library" ]; then
        echo "the compiler has no lib$name.so: install GCC with its sanitizer libraries, or set CXX to it" >&2
        exit 1
    fi
    libraries="$libraries${libraries:+:}$library"
done

echo "== building with sanitizers in build/sanitized" >&2
if ! python -c 'import hypothesis, PIL, pytest, qora_vision' 2>/dev/null; then
    python -m pip install --quiet '.[test]'
fi
site="$PWD/build/sanitized/site"
python -m pip install --quiet --no-deps --upgrade --target "$site" . \
    -C build-dir=build/sanitized/cmake -C "cmake.define.CMAKE_CXX_COMPILER=${CXX:-g++}" \
    -C cmake.build-type=Debug -C "cmake.define.CMAKE_CXX_FLAGS_DEBUG=-O1 -g1" \
    -C cmake.define.QORA_VISION_SANITIZE=address,undefined

echo "== pytest with sanitizers" >&2
if [ $# -eq 0 ]; then
    # All tests that call the engine directly. Sizes of real models take long and exercise no other code than small
    # ones.
    set -- -q -k "not real" $(grep -lE "^from (qora_vision import _core|kernel_cases|qora_vision.video.resize)" $(find tests -name "test_*.py" -not -path "tests/repository/*"))
fi
# Python itself is not built with the sanitizers and frees nothing at exit, so leaks are not reported. malloc may
# return null, as the tests of huge sizes expect.
export LD_PRELOAD="$libraries" PYTHONPATH="$site"
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
python - <<'CHECK'
import sys

from qora_vision import _core

if "build/sanitized/" not in _core.__file__:
    sys.exit(f"the tests would run {_core.__file__}, which has no sanitizers")
CHECK
python -m pytest "$@"
