#!/usr/bin/env bash
# Builds both packages in place with the profile `fast` (or the one given).
source "$(dirname "$0")/lib.sh"
source scripts/tools.sh
source scripts/steps.sh

profile=${1:-fast}
say "Python extension ($profile)"
python_package "$profile"
say "Node package ($profile)"
node_package "$profile"
