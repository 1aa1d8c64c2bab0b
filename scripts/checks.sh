# Sourced: the checks that read source, shared by `make lint` and `make test`.
# shellcheck shell=bash

lint_rust() {
    need_rust
    step "cargo fmt" cargo fmt --all --check
    # Warnings are errors here and in CI, not in a plain `cargo build`.
    step "cargo clippy" cargo clippy -q --locked --workspace --all-targets --all-features -- -D warnings
}

lint_python() {
    must "python tools" python_packages test
    step "ruff check" "$VENV/bin/ruff" check -q
    step "ruff format" "$VENV/bin/ruff" format -q --check
}

lint_node() {
    must "npm packages" node_packages
    step "biome" node_tool biome ci --error-on-warnings --colors=off
}
