#!/usr/bin/env bash
# Imports the package and classifies a tiny clip under QEMU on CPUs without AVX and without AVX-512: an instruction
# that they lack ends the process. Needs Linux on x86-64; installs qemu-user with apt if permitted.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/emulation.sh

[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] || skip "this is not Linux on x86-64"
need_command qemu-x86_64 qemu-user
version="$(qemu-x86_64 --version | sed -n 's/^qemu-x86_64 version \([0-9.]*\).*/\1/p')"
[ "$(printf '7.2\n%s\n' "$version" | sort -V | head -n 1)" = 7.2 ] || skip "QEMU $version cannot do AVX2, 7.2 can"

. tools/venv.sh
python -c 'import qora_vision' 2>/dev/null || python -m pip install --quiet .
logits=build/old-cpus/logits.npz
python tools/check_cpu.py "$logits"
for cpu in "Nehalem scalar" "Haswell scalar,avx2"; do
    echo "== ${cpu% *}" >&2
    # QEMU warns about CPU features that it does not emulate. The program does not use them.
    QORA_VISION_NUM_THREADS=2 qemu-x86_64 -cpu "${cpu% *}" "$(command -v python)" tools/check_cpu.py "$logits" \
        --isas "${cpu#* }" 2> >(grep -v "TCG doesn't support" >&2)
done
