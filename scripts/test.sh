#!/usr/bin/env bash
# Everything CI runs. With arguments only those parts: rust, python, node, examples, packages.
source "$(dirname "$0")/lib.sh"
source scripts/tools.sh
source scripts/steps.sh
source scripts/report.sh
source scripts/checks.sh
source scripts/servers.sh

test_rust() {
    section Rust
    lint_rust
    need_servers
    step "cargo test" cargo test -q --locked --workspace --all-features
    step "cargo doc" env RUSTDOCFLAGS="-D warnings -D rustdoc::broken_intra_doc_links" \
        cargo doc -q --locked --workspace --no-deps --all-features
}

test_python() {
    section Python
    lint_python
    must "build the Python package" python_package fast
    step "mypy" "$VENV/bin/mypy"
    step "stubtest" stubtest
    # Named, as pyright would take a configuration from a folder above before ours.
    step "pyright" node_tool pyright --warnings -p pyproject.toml
    need_servers
    step "pytest" "$PYTHON" -m pytest -q
}

test_node() {
    section Node
    lint_node
    must "build the Node package" node_package fast
    step "tsc" node_tool tsc -p tsconfig.json
    need_servers
    step "vitest" node_tool vitest run
    step "vitest, node:sqlite" with_node_sqlite bindings-node/tests/{drivers,inbox,projections}.test.ts
}

test_examples() {
    section Examples
    must "python tools" python_packages test
    must "build both packages" build_both
    must "compile the NestJS service" node_tool tsc -p examples/node/service
    must "the flights' data" flights_data
    need_servers
    step "pytest examples" pytest_examples
}

test_packages() {
    section Packages
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
}

# Each quickstart against examples/quickstart.txt, the flights of both runtimes against awk and each other's stores.
pytest_examples() {
    need_node
    ORKESTRA_TEST_REQUIRE=flights,$ORKESTRA_TEST_REQUIRE "$PYTHON" -m pytest -q examples
}

[ $# -gt 0 ] || set -- rust python node examples packages
for part; do
    case $part in
    rust | python | node | examples | packages) "test_$part" ;;
    *) die "no part '$part': rust, python, node, examples, packages" ;;
    esac
done
finish
