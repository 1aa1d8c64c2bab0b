#!/usr/bin/env bash
# Installs dist/*.whl and dist/*.tgz into empty environments whose PATH has no compiler, and runs the quickstarts.
source "$(dirname "$0")/lib.sh"
source scripts/tools.sh
need_python
need_node

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# PATH holds Node and what its launcher and npm's need, nothing else.
mkdir "$work/bin"
for tool in node npm env sh; do
    ln -s "$(command -v "$tool")" "$work/bin/$tool"
done
bare() { env -u VIRTUAL_ENV -u PYTHONPATH -u NODE_PATH PATH="$work/bin" "$@"; }
for tool in cc gcc clang cargo rustc; do
    if bare sh -c "command -v $tool"; then
        die "$tool is on the PATH of the package test"
    fi
done

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
ls "$DIST/orkestra-$version"-*.whl "$DIST/orkestra-$version.tgz" >/dev/null ||
    die "wheel, tarball and Cargo.toml differ in version ($version)"

echo "wheel: install and run"
base=$("$PYTHON" -c 'import sys; print(sys._base_executable)')
bare "$base" -m venv "$work/venv"
bare "$work/venv/bin/python" -m pip install -q --only-binary :all: "$DIST"/*.whl
cp -r examples/python/quickstart "$work/python"
(cd "$work/python" && bare "$work/venv/bin/python" main.py) >"$work/python.txt"
diff -u examples/quickstart.txt "$work/python.txt"

echo "tarball: install and run, as a module and with require"
mkdir "$work/node"
cd "$work/node"
echo '{ "name": "package-test", "private": true }' >package.json
zod=$(cd "$ROOT" && node -p "require('./package.json').devDependencies.zod")
bare npm install --silent --no-audit --no-fund "$DIST"/*.tgz "zod@$zod"
cp -r "$ROOT/examples/node/quickstart" quickstart
bare node quickstart/main.mjs >"$work/node.txt"
diff -u "$ROOT/examples/quickstart.txt" "$work/node.txt"
bare node -e 'const { Orkestra } = require("orkestra"); require("orkestra/testing"); new Orkestra("Shop", {})'
