# Sourced by the scripts beside it: makes .venv in the repository's root if there is none, and activates it.
# PYTHON names the interpreter it is made with (default: python3, or python where there is no python3).

python="${PYTHON:-$(command -v python3 || command -v python || true)}"
if [ -z "$python" ]; then
    echo "no python3 found: install Python 3.10 or later, or set PYTHON to its path" >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "Python 3.10 or later is needed, but $python is $("$python" --version 2>&1): set PYTHON to a later one" >&2
    exit 1
fi
# An incomplete virtual environment, or one whose interpreter is gone, is created again.
if ! .venv/bin/python -m pip --version >/dev/null 2>&1 && ! .venv/Scripts/python -m pip --version >/dev/null 2>&1; then
    echo "== making .venv with $python" >&2
    if ! "$python" -m venv --clear .venv; then
        echo "$python cannot make virtual environments: install its venv module (Debian: apt install python3-venv)" >&2
        exit 1
    fi
fi
if [ -f .venv/bin/activate ]; then
    . .venv/bin/activate
else
    . .venv/Scripts/activate
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1
