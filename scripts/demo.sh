#!/usr/bin/env bash
# The flights of 2013 through the runtime named: python (default) or node. Installs what that runtime needs.
# The other arguments go to the program.
source "$(dirname "$0")/lib.sh"
source scripts/tools.sh
source scripts/steps.sh

runtime=${1:-python}
shift || true
# The stores of the demo stay here between runs, so that each runtime can read the other's.
mkdir -p build/demo
say "prepare the demo ($runtime)"
case $runtime in
python)
    python_package fast
    flights_data
    # The view is written through a driver of PostgreSQL then.
    [[ "$*" != *postgres* ]] || python_packages test
    leave_target
    exec "$PYTHON" examples/python/flights/main.py "$@"
    ;;
node)
    node_package fast
    flights_data
    leave_target
    exec node examples/node/flights/main.mjs "$@"
    ;;
*) die "RUNTIME is python or node, not '$runtime'" ;;
esac
