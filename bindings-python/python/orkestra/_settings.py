"""The one place that reads the environment."""

from __future__ import annotations

import os


def setting(name: str, given: str | None) -> str | None:
    """The argument if it is given, else the variable ``ORKESTRA_<NAME>``."""
    return given or os.environ.get(f"ORKESTRA_{name.upper()}") or None
