"""``orkestra worker``: runs the app that a target names."""

from __future__ import annotations

import importlib
import logging
import sys
import traceback
from pathlib import Path

from orkestra.app import Orkestra
from orkestra.errors import InvalidSettingError, OrkestraError

_DONE, _FAILED = 0, 1


def run_worker(target: str) -> int:
    """Runs the app until a signal says so, and returns an exit code.

    Why it fails is said on stderr.
    """
    try:
        app = load(target)
        if not logging.getLogger().handlers:
            logging.basicConfig(
                level=logging.INFO,
                format="%(asctime)s %(levelname)s %(name)s: %(message)s",
            )
        app.run()
    except OrkestraError as error:
        print(f"orkestra: {error}", file=sys.stderr)  # noqa: T201 - for people
        return _FAILED
    except Exception:
        traceback.print_exc()
        return _FAILED
    return _DONE


def load(target: str) -> Orkestra:
    """The app that ``module:name`` names; the name is ``app`` when it is left out.

    The current directory is a place to import from.

    Raises:
        InvalidSettingError: There is no such module or name, or it is no app.
    """
    module_name, _, name = target.partition(":")
    name = name or "app"
    if not all(part.isidentifier() for part in f"{module_name}.{name}".split(".")):
        raise _refuse(target, f"expected module:app, found {target!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not (module_name == missing or module_name.startswith(f"{missing}.")):
            # What the module itself imports.
            raise
        raise _refuse(target, f"there is no module {missing} in {here}") from None
    found: object = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise _refuse(target, f"{module_name} has no attribute {name}")
        found = getattr(found, part)
    if not isinstance(found, Orkestra):
        kind = type(found).__qualname__
        raise _refuse(target, f"{target} is no Orkestra app, but of type {kind}")
    return found


def _refuse(target: str, reason: str) -> InvalidSettingError:
    details = {"setting": "target", "target": target, "reason": reason}
    return InvalidSettingError(f"target: {reason}", details)
