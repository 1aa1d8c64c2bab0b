#!/usr/bin/env bash
# Installs dist/*.whl and dist/*.tgz into empty environments whose PATH has no compiler, runs the quickstarts there,
# and checks the types that users get.
source "$(dirname "$0")/lib.sh"
source scripts/tools.sh
source scripts/steps.sh
python_packages test
node_packages

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
# What it depends on is fetched once, so that a later run needs no network.
once "$VENV/.stamps/wheels" pyproject.toml -- "$PYTHON" -m pip download -q --only-binary :all: -d "$VENV/wheels" "$DIST"/*.whl
rm -f "$VENV"/wheels/orkestra-*
bare "$work/venv/bin/python" -m pip install -q --no-index --find-links "$VENV/wheels" "$DIST"/*.whl
mkdir "$work/python"
cp -r examples/python/quickstart "$work/python/quickstart"
(cd "$work/python" && bare "$work/venv/bin/python" quickstart/main.py) >"$work/python.txt"
diff -u examples/quickstart.txt "$work/python.txt"

echo "wheel: types"
(cd "$work/python" && "$VENV/bin/mypy" --config-file= --strict --python-executable "$work/venv/bin/python" quickstart)

echo "tarball: install and run"
mkdir "$work/node"
echo '{ "name": "package-test", "private": true }' >"$work/node/package.json"
zod=$(node -p "require('./package.json').devDependencies.zod")
(cd "$work/node" && bare npm install --silent --prefer-offline --no-audit --no-fund "$DIST"/*.tgz "zod@$zod")
cp -r examples/node/quickstart "$work/node/quickstart"
(cd "$work/node" && bare node quickstart/main.mjs) >"$work/node.txt"
diff -u examples/quickstart.txt "$work/node.txt"

echo "tarball: import and require, and the types of both"
for module in mts cts; do
    cat >"$work/node/user.$module" <<'TS'
import { Orkestra } from "orkestra";
import * as testing from "orkestra/testing";

const app: Orkestra = new Orkestra("Shop");
if (typeof app !== "object" || Object.keys(testing).length === 0) throw new Error("nothing was exported");
TS
done
node_modules/.bin/tsc --ignoreConfig --strict --module nodenext --target es2022 --types node \
    --typeRoots node_modules/@types "$work/node/user.mts" "$work/node/user.cts"
(cd "$work/node" && bare node user.mjs && bare node user.cjs)

echo "tarball: the NestJS module, and its types, imported and required"
nest=()
for package in @nestjs/common @nestjs/core reflect-metadata rxjs; do
    nest+=("$package@$(node -p "require('./package.json').devDependencies['$package']")")
done
(cd "$work/node" && bare npm install --silent --prefer-offline --no-audit --no-fund "${nest[@]}")
for module in mts cts; do
    cat >"$work/node/nest.$module" <<'TS'
import "reflect-metadata";
import type { DynamicModule } from "@nestjs/common";
import { OrkestraModule } from "orkestra/nestjs";

const made: DynamicModule = OrkestraModule.forRoot({ name: "Shop", store: "memory:" });
if (made.exports?.length !== 1) throw new Error("the module exports no app");
TS
done
node_modules/.bin/tsc --ignoreConfig --strict --module nodenext --target es2022 --types node --skipLibCheck \
    --typeRoots node_modules/@types "$work/node/nest.mts" "$work/node/nest.cts"
(cd "$work/node" && bare node nest.mjs && bare node nest.cjs)
