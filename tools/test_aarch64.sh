#!/usr/bin/env bash
# Cross-compiles the engine for AArch64 and runs the tests of the NEON tables under QEMU, each on a CPU that has no
# more than its table needs. Everything is set up in build/aarch64: an AArch64 Python from the packages of this Debian
# and wheels from PyPI. Needs Debian (not on AArch64); installs the compiler and QEMU with apt if permitted.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/emulation.sh

[ "$(uname -s)" = Linux ] || skip "this is not Linux"
[ "$(uname -m)" != aarch64 ] || skip "this is AArch64: tools/run_tests.sh tests its tables"
need_command aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
need_command qemu-aarch64 qemu-user
command -v apt-get >/dev/null || skip "an AArch64 Python is taken from Debian's packages, and there is no apt-get"
. tools/venv.sh

here="$PWD/build/aarch64"
root="$here/root" site="$here/site" tools="$here/tools"
mkdir -p "$here"

# The system's mirrors, with the lists and packages of the other architecture in a separate folder: the package state
# of this machine does not change.
if [ ! -e "$root/complete" ]; then
    echo "== fetching an AArch64 Python" >&2
    rm -rf "$root" "$here/apt"
    mkdir -p "$root" "$here/apt/state/lists/partial" "$here/apt/cache/archives/partial"
    : >"$here/apt/status"
    cat >"$here/apt.conf" <<CONF
Dir::State "$here/apt/state";
Dir::State::status "$here/apt/status";
Dir::Cache "$here/apt/cache";
APT::Architecture "arm64";
APT::Architectures "arm64";
APT::Sandbox::User "";
CONF
    if ! {
        APT_CONFIG="$here/apt.conf" apt-get update -qq &&
            APT_CONFIG="$here/apt.conf" apt-get install -qq -y --no-install-recommends --download-only \
                python3 libpython3-dev libstdc++6
    } >"$here/apt.log" 2>&1; then
        skip "the packages of an AArch64 Python cannot be fetched, see $here/apt.log"
    fi
    for package in "$here"/apt/cache/archives/*.deb; do
        dpkg-deb -x "$package" "$root"
    done
    rm -r "$here/apt"
    touch "$root/complete"
fi
version="$(basename "$(echo "$root"/usr/bin/python3.[0-9]*[0-9])")"
# This Python under QEMU, for us, for CMake and for the processes that tests start.
cat >"$here/python" <<WRAPPER
#!/bin/sh
PYTHONHOME="$root/usr" PYTHONPATH="$site" exec qemu-aarch64 -0 "$here/python" -L "$root" "$root/usr/bin/$version" "\$@"
WRAPPER
chmod +x "$here/python"

if [ ! -e "$site/complete" ]; then
    echo "== installing the wheels that the tests need" >&2
    rm -rf "$site" "$tools"
    python -m pip install --quiet --target "$tools" 'cmake>=3.26' ninja pybind11
    python -m pip install --quiet --target "$site" --only-binary :all: --implementation cp \
        --python-version "${version#python}" --abi "cp3${version#python3.}" --abi abi3 --abi none \
        --platform manylinux2014_aarch64 --platform manylinux_2_28_aarch64 --platform any \
        numpy av opencv-python-headless safetensors tqdm pytest hypothesis
    touch "$site/complete"
fi

echo "== cross-compiling" >&2
export PYTHONPATH="$tools"
"$tools/bin/cmake" -S . -B "$here/cmake" -G Ninja -DCMAKE_MAKE_PROGRAM="$tools/bin/ninja" \
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
    -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_CXX_FLAGS="-idirafter $root/usr/include" \
    -DPython_EXECUTABLE="$here/python" -DPython_INCLUDE_DIR="$root/usr/include/$version" \
    -Dpybind11_DIR="$tools/pybind11/share/cmake/pybind11" \
    -DQORA_VISION_WERROR=ON >"$here/cmake.log"
"$tools/bin/cmake" --build "$here/cmake" --parallel "$(nproc)" >>"$here/cmake.log" || {
    tail -n 40 "$here/cmake.log" >&2
    exit 1
}
unset PYTHONPATH
rm -rf "$site"/qora_vision*
cp -r python/qora_vision "$site/"
cp "$here"/cmake/_core*.so "$site/qora_vision/"
mkdir "$site/qora_vision-0.dist-info"
printf 'Metadata-Version: 2.1\nName: qora-vision\nVersion: 0\n' >"$site/qora_vision-0.dist-info/METADATA"

echo "== a tiny clip on each CPU" >&2
python -c 'import qora_vision' 2>/dev/null || python -m pip install --quiet .
logits="$here/logits.npz"
python tools/check_cpu.py "$logits"
export QORA_VISION_NUM_THREADS=2
cpus="cortex-a72 neoverse-n1 max"
isas=scalar
for cpu in $cpus; do
    case "$cpu" in
        cortex-a72) isas="$isas,neon" ;;
        neoverse-n1) isas="$isas,neon_dotprod" ;;
        max) isas="$isas,neon_dotprod_bf16" ;;
    esac
    QEMU_CPU="$cpu" "$here/python" tools/check_cpu.py "$logits" --isas "$isas"
done

# Every table on a CPU where it is the most capable one. The scalar code is tested natively, and sizes of real models
# would take an emulator minutes.
echo "== tests of kernels and ops on $cpus" >&2
test_table() {
    local cpu="$1" table="$2" file="$3"
    QEMU_CPU="$cpu" "$here/python" -m pytest -q -p no:cacheprovider tests/*/"test_$file.py" \
        -k "$table and not real" >"$here/$table-$file.log" 2>&1 || {
        cat "$here/$table-$file.log" >&2
        return 1
    }
    echo "$table, $file: $(tail -n 1 "$here/$table-$file.log")"
}
export -f test_table
export here
{
    for file in linear attention window_attention short_attention rotary recurrent mlp norm_and_activations \
        q4_panels tubelets padded_tables primitives; do
        printf '%s\n' "cortex-a72 neon $file" "neoverse-n1 neon_dotprod $file" "max neon_dotprod_bf16 $file"
    done
    printf '%s\n' "max everywhere isa" "max between isa"
} | xargs -P "$(nproc)" -L 1 bash -c 'test_table "$@"' test_table
