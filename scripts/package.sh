#!/usr/bin/env bash
# Builds dist/*.whl and dist/*.tgz with the profile `release` (or the one given).
source "$(dirname "$0")/lib.sh"
source scripts/tools.sh
source scripts/steps.sh

profile=${1:-release}
say "wheel ($profile)"
wheel "$profile"
say "npm tarball ($profile)"
tarball "$profile"
ls -l "$DIST"/*.whl "$DIST"/*.tgz
