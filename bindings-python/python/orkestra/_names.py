"""Type names from Python's own names."""

from __future__ import annotations

import sys
from pathlib import Path

from orkestra._orkestra import camelize, underscore


def type_name_for(module: str, name: str) -> str:
    """The type name of the class ``name`` of ``module``.

    ``my_app.orders.commands`` and ``PlaceOrder`` give
    ``MyApp.Orders.Commands.PlaceOrder``. Leading underscores are dropped, and so is a
    last module segment that is the class's name (``place_order``).
    """
    name = name.lstrip("_") or name
    segments = [segment.lstrip("_") for segment in _real_module(module).split(".")]
    segments = [segment for segment in segments if segment]
    if segments and segments[-1] == underscore(name):
        segments.pop()
    return ".".join([*(camelize(segment) for segment in segments), name])


def _real_module(module: str) -> str:
    if module != "__main__":
        return module
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != "__main__":
        # `python -m my_app` runs `my_app.__main__`.
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    if file:
        return Path(file).stem
    return "main"
