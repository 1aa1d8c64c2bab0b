#!/usr/bin/env bash
# Formatters and linters of the three languages.
source "$(dirname "$0")/lib.sh"
source scripts/tools.sh
source scripts/steps.sh
source scripts/report.sh
source scripts/checks.sh

section Rust
lint_rust
section Python
lint_python
section Node
lint_node
finish
