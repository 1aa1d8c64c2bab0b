#!/usr/bin/env bash
# Builds the packages (release) and runs benchmarks/run.py on them. Arguments go to it.
source "$(dirname "$0")/lib.sh"
source scripts/tools.sh

scripts/package.sh release
need_rust
need_python
need_node
exec "$PYTHON" benchmarks/run.py "$@"
