#!/usr/bin/env bash
# Everything CI runs. With arguments only those parts: rust, python, node, examples, packages.
source "$(dirname "$0")/lib.sh"
source scripts/tools.sh
source scripts/steps.sh
source scripts/report.sh
source scripts/checks.sh

# GUARD: while the workspace is being built up, a part whose folder is not there yet is passed over.
# The lead drops this function and its uses when every folder exists.
exists() {
    [ -e "$1" ] || {
        echo "-- $1 does not exist yet: passed over"
        return 1
    }
}

test_rust() {
    section Rust
    lint_rust
    step "cargo test" cargo test -q --locked --workspace --all-features
    step "cargo doc" env RUSTDOCFLAGS="-D warnings -D rustdoc::broken_intra_doc_links" \
        cargo doc -q --locked --workspace --no-deps --all-features
}

test_python() {
    section Python
    lint_python
    exists bindings-python/Cargo.toml || return 0
    must "build the Python package" python_package fast
    step "mypy" "$VENV/bin/mypy"
    step "stubtest" stubtest
    step "pyright" node_tool pyright --warnings
    step "pytest" "$PYTHON" -m pytest -q
}

test_node() {
    section Node
    lint_node
    exists bindings-node/Cargo.toml || return 0
    must "build the Node package" node_package fast
    step "tsc" node_tool tsc -p tsconfig.json
    step "vitest" node_tool vitest run
}

test_examples() {
    section Examples
    exists bindings-python/Cargo.toml && exists bindings-node/Cargo.toml &&
        exists examples/python/quickstart/main.py && exists examples/node/quickstart/main.mjs || return 0
    must "python tools" python_packages test
    must "build both packages" build_both
    # Each quickstart against examples/quickstart.txt, flights against awk; `cargo test` and vitest run their own too.
    step "pytest examples" env ORKESTRA_TEST_REQUIRE=flights "$PYTHON" -m pytest -q examples
    must "python tools" python_packages test
    must "the flights' data" flights_data
    step "flights agree" flights_agree
}

flights_agree() {
    need_node
    ORKESTRA_TEST_REQUIRE=flights "$PYTHON" -m pytest -q examples/tests
}

test_packages() {
    section Packages
    exists bindings-python/Cargo.toml && exists bindings-node/Cargo.toml &&
        exists examples/python/quickstart/main.py && exists examples/node/quickstart/main.mjs || return 0
    must "make package (fast)" scripts/package.sh fast
    step "install without a compiler" scripts/package_test.sh
}

# The stub of the extension says what the built module has. Without a stub mypy's tool is content, so we look first.
stubtest() {
    [ -e bindings-python/python/orkestra/_orkestra.pyi ] || die "the extension has no stub, _orkestra.pyi"
    "$PYTHON" -m mypy.stubtest orkestra._orkestra
}

build_both() {
    python_package fast
    node_package fast
    flights_data
}

[ $# -gt 0 ] || set -- rust python node examples packages
for part; do
    case $part in
    rust | python | node | examples | packages) "test_$part" ;;
    *) die "no part '$part': rust, python, node, examples, packages" ;;
    esac
done
finish
