# Sourced by scripts/demo and scripts/test: changes to the clone's top folder and makes .venv ready there.
#
#   set_up demo    what runs the package and its examples (scripts/requirements.txt)
#   set_up dev     that and the checks (scripts/requirements-dev.txt, which holds every line of the other)
#
# Wants a Python 3.11 to 3.13 with `venv`; PYTHON=/path/to/python chooses one. A set-up is done once per content of the
# requirements: .venv/.ready-* remembers it. Two scripts that start at once wait for each other.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

export PYTHONNOUSERSITE=1 PIP_USER=0 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 RAY_USAGE_STATS_ENABLED=0
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV

say() {
    printf '%s\n' "== $*" >&2
}

die() {
    printf '%s\n' "error: $*" >&2
    exit 1
}

usable_python() { # PYTHON : says why not, if not
    "$1" - 2>&1 <<'PY'
import sys

if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit("is Python %d.%d; wonder-ray is pinned for 3.11 to 3.13" % sys.version_info[:2])
try:
    import ensurepip, venv
except ImportError as error:
    sys.exit("cannot make virtual environments (%s); on Debian: apt-get install python3-venv" % error)
PY
}

find_python() { # prints the first usable Python, or dies with every reason
    local candidate reason reasons=""
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 /usr/bin/python3}; do
        command -v "$candidate" >/dev/null || continue
        if reason="$(usable_python "$candidate")"; then
            printf '%s\n' "$candidate"
            return
        fi
        reasons+=$'\n'"  $candidate: $(printf '%s' "$reason" | tail -n 1)"
    done
    die "no usable Python found; set PYTHON to one of version 3.11 to 3.13.${reasons:-$'\n'  there is none on PATH}"
}

fingerprint() { # REQUIREMENTS : what .venv depends on
    { pwd && cat "$1" pyproject.toml; } | sha256sum | cut -d ' ' -f 1
}

ready() { # KIND REQUIREMENTS
    [ -x .venv/bin/python ] && [ -f ".venv/.ready-$1" ] && [ "$(cat ".venv/.ready-$1")" = "$(fingerprint "$2")" ] &&
        .venv/bin/python -c '' 2>/dev/null
}

install() { # KIND REQUIREMENTS
    if ! .venv/bin/python -m pip --version >/dev/null 2>&1 || [ "$(cat .venv/.place 2>/dev/null)" != "$PWD" ]; then
        local python
        python="$(find_python)"
        say "making .venv with $("$python" --version)"
        "$python" -m venv --clear .venv
        printf '%s\n' "$PWD" >.venv/.place # a virtual environment does not survive a move
    fi
    say "installing $2 into .venv (a minute or two, once)"
    rm -f .venv/.ready-*
    .venv/bin/python -m pip install --quiet --progress-bar off --require-hashes -r "$2"
    .venv/bin/python -m pip install --quiet --progress-bar off --no-deps --no-build-isolation --no-index -e .
    fingerprint "$2" >".venv/.ready-$1"
}

set_up() { # KIND
    if [ ! -w "${HOME:-/nonexistent}" ]; then # pip, Ray and DuckDB keep files there
        export HOME="$PWD/.venv/home"
    fi
    exec 9>.venv.lock
    if command -v flock >/dev/null; then
        flock --nonblock 9 || { say "waiting for another set-up of .venv" && flock 9; }
    fi
    if [ "$1" = demo ]; then
        ready dev scripts/requirements-dev.txt || ready demo scripts/requirements.txt || install demo scripts/requirements.txt
    else
        ready dev scripts/requirements-dev.txt || install dev scripts/requirements-dev.txt
    fi
    exec 9>&-
    mkdir -p "$HOME"
}
