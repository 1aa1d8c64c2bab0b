"""The command ``orkestra``, which is also ``python -m orkestra``."""

from __future__ import annotations

import signal
import sys

from orkestra import _orkestra
from orkestra._worker import run_worker


def main() -> int:
    """Does what the arguments say and returns the exit code."""
    # The command has handlers of its own; Python's would be called beside them.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    command = [sys.executable, "-m", "orkestra"]
    return _orkestra.run_cli(sys.argv[1:], command, run_worker)


if __name__ == "__main__":
    sys.exit(main())
