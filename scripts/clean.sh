#!/usr/bin/env bash
# Removes what was built inside this clone.
source "$(dirname "$0")/lib.sh"

rm -rf build dist .venv node_modules bindings-node/dist .mypy_cache .pytest_cache .ruff_cache
rm -f bindings-python/python/orkestra/_orkestra*.so
find . -name __pycache__ -type d -prune -exec rm -rf {} +
say "cargo's build folder stays, other clones use it: $CARGO_TARGET_DIR"
