from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2]

PRINTED = """\
shoes: [('red running shoes', 70)]
red: [('red running shoes', 70), ('red umbrella', 25)]
new on repetition: 0
shoes: [('red running shoes', 70)]
rebuilt from 5 events
shoes: [('red running shoes', 70)]
"""


def test_the_index_follows_the_log_and_repetitions_change_nothing(
    tmp_path: Path,
) -> None:
    program = EXAMPLES / "python/search/main.py"
    run = [sys.executable, str(program), str(tmp_path)]

    done = subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True)

    assert done.stdout == PRINTED
