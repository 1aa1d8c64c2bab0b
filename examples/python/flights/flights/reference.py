"""The board computed straight from the CSV, by another tool: awk."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from flights.rows import lines

if TYPE_CHECKING:
    from subprocess import Popen

PROGRAM = Path(__file__).resolve().parents[3] / "flights.awk"


def reference(data: Path, limit: int | None = None) -> list[str]:
    """The lines that `Board.lines` must equal, for the first `limit` rows."""
    awk: Popen[str]
    with subprocess.Popen(
        ["awk", "-F,", "-f", str(PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as awk:
        assert awk.stdin
        assert awk.stdout
        # It prints at its end, so neither waits for the other.
        awk.stdin.writelines(lines(data, limit))
        awk.stdin.close()
        said = awk.stdout.read().splitlines()
    if awk.returncode:
        raise subprocess.CalledProcessError(awk.returncode, "awk")
    return sorted(said)
