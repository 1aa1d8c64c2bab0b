#!/usr/bin/env bash
# Runs benchmarks/run.py on the release build. Arguments go to it.
source "$(dirname "$0")/lib.sh"
source scripts/tools.sh
source scripts/steps.sh

say "build (release)"
python_package release
node_package release
python_packages bench
exec "$PYTHON" benchmarks/run.py "$@"
