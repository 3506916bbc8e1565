# Sourced by the scripts that run under QEMU. If the emulator cannot be installed, they are skipped and say why; with
# REQUIRE_EMULATION=1 that is a failure.

skip() {
    echo "SKIPPED $(basename "$0"): $1" >&2
    [ "${REQUIRE_EMULATION:-0}" != 1 ] || exit 1
    exit 0
}

# need_command COMMAND PACKAGE: requires a command of a Debian package, and installs the package if possible.
need_command() {
    if command -v "$1" >/dev/null; then
        return
    fi
    command -v apt-get >/dev/null || skip "$1 is not installed, and there is no apt-get to install it with"
    local root=""
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || skip "$1 is not installed (apt install $2)"
        root="sudo -n"
    fi
    echo "== installing $2" >&2
    if ! { $root apt-get update -qq && $root apt-get install -y -qq --no-install-recommends "$2"; } >&2; then
        skip "apt-get could not install $2"
    fi
}
