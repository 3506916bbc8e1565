#!/usr/bin/env bash
# Runs parity tests of the table avx512_amx with its tile instructions carried out in C (tools/amx_emulator.c), on
# CPUs with AMX and without. Needs Linux on x86-64 and all of AVX-512 that the table uses. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/emulation.sh

[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] || skip "this is not Linux on x86-64"
has() { grep -qw "$1" /proc/cpuinfo; }
for feature in avx512f avx512bw avx512vl avx512dq avx512_vnni avx512_bf16; do
    has $feature || skip "this CPU lacks $feature, which the table has from the one below"
done
has amx_tile || has cpuid_fault || skip "this CPU's answer about AMX cannot be changed (no CPUID faulting)"

. tools/venv.sh
python -c 'import hypothesis, PIL, pytest, qora_vision' 2>/dev/null || python -m pip install --quiet '.[test]'
mkdir -p build/amx
"${CC:-cc}" -O2 -mavx2 -mfma -Wall -Wextra -Werror -shared -fPIC tools/amx_emulator.c -o build/amx/emulator.so -ldl -lm
emulated() { LD_PRELOAD="$PWD/build/amx/emulator.so" "$@"; }
emulated python -c 'from qora_vision import _core; assert "avx512_amx" in _core.available_isas()'
# Python's own handler of the signal would take the place of the emulator's.
emulated python -m pytest -q -p no:faulthandler tests/kernels tests/ops \
    -k "(avx512_amx or test_amx) and not (linux_refuses or nobody_is_refused)" "$@"
