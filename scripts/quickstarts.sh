#!/usr/bin/env bash
# The same scenario prints the same in every language: examples/quickstart.txt. (`cargo test` compares Rust's.)
source "$(dirname "$0")/lib.sh"
source scripts/tools.sh
need_node

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# runs NAME COMMAND...: in an empty folder, compared with what every language prints.
runs() {
    local name=$1
    shift
    echo "quickstart: $name"
    mkdir "$work/$name"
    (cd "$work/$name" && "$@") >"$work/$name.txt"
    diff -u "$ROOT/examples/quickstart.txt" "$work/$name.txt"
}

runs python "$PYTHON" "$ROOT/examples/python/quickstart/main.py"
runs node node "$ROOT/examples/node/quickstart/main.mjs"
