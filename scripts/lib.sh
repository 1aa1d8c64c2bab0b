# Sourced by every script here: where things are, how they are announced, and `once`.
# shellcheck shell=bash disable=SC2034

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD

# One build folder for all clones, outside of them: a fresh clone builds fast.
CARGO_TARGET_DIR=${ORKESTRA_TARGET_DIR:-${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/orkestra/target}}
export CARGO_TARGET_DIR
# The extension must not link to libpython, which many machines lack; one setting for every cargo call, so
# that nothing is built twice.
export PYO3_BUILD_EXTENSION_MODULE=1
export CARGO_TERM_PROGRESS_WHEN=never
export PIP_DISABLE_PIP_VERSION_CHECK=1

VENV=$ROOT/.venv
PYTHON=$VENV/bin/python
DIST=$ROOT/dist

say() { printf '\033[1m== %s\033[0m\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# fingerprint PATH...: one hash over the content of files and folders, without what is built or cached.
fingerprint() {
    find "$@" \( -name node_modules -o -name dist -o -name __pycache__ -o -name '.*_cache' \) -prune \
        -o -type f ! -name '*.so' ! -name '*.db*' -print0 2>/dev/null |
        LC_ALL=C sort -z | xargs -0 -r sha256sum | sha256sum | cut -d ' ' -f 1
}

# once STAMP INPUT... -- COMMAND...: run the command unless it ran with the same words on the same inputs.
once() {
    local stamp=$1 inputs=() now
    shift
    while [ "$1" != -- ]; do
        inputs+=("$1")
        shift
    done
    shift
    now="$(fingerprint "${inputs[@]}") $*"
    if [ "$(cat "$stamp" 2>/dev/null)" = "$now" ]; then
        return 0
    fi
    rm -f "$stamp"
    "$@" || return
    mkdir -p "$(dirname "$stamp")"
    printf '%s\n' "$now" >"$stamp"
}
