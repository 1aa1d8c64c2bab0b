from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2]


def test_it_prints_what_every_language_prints(tmp_path: Path) -> None:
    program = EXAMPLES / "python/quickstart/main.py"

    done = subprocess.run(
        [sys.executable, str(program)],
        check=True,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )

    assert done.stdout == (EXAMPLES / "quickstart.txt").read_text()
