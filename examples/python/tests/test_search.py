from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_a_switch_that_is_cut_off_is_done_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = runpy.run_path(str(EXAMPLES / "python/search/main.py"))
    catalogue = example["Catalogue"](tmp_path / "index")
    for suffix in ("", "_rebuild"):
        catalogue.open(suffix)
    (tmp_path / "index_rebuild" / "mark").touch()
    rename = Path.rename

    def cut_off(path: Path, target: Path) -> Path:
        if path.name == "index_rebuild":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", cut_off)
    with pytest.raises(KeyboardInterrupt):
        catalogue.switch("_rebuild")
    monkeypatch.undo()
    catalogue.finish_switch()

    assert (tmp_path / "index" / "mark").exists()
    catalogue.finish_switch()
    catalogue.empty("_rebuild")
    catalogue.switch("_rebuild")
    assert not (tmp_path / "index" / "mark").exists()
