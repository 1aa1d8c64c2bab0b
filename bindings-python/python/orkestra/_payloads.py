"""Payload errors from pydantic's."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from orkestra.errors import InvalidPayloadError


def invalid_payload(type_name: str, error: BaseException) -> BaseException:
    """The error for a payload that does not fit its class, naming every field."""
    if not isinstance(error, ValidationError):
        return error
    errors: list[dict[str, Any]] = [
        {"path": path(item["loc"]), "message": item["msg"]}
        for item in error.errors(include_url=False, include_input=False)
    ]
    reason = "; ".join(f"{item['path']}: {item['message']}" for item in errors)
    details = {"type_name": type_name, "reason": reason, "errors": errors}
    return InvalidPayloadError(f"{type_name}: {reason}", details)


def path(location: tuple[int | str, ...]) -> str:
    """A JSON path such as ``$.lines[0].sku``."""
    return "$" + "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in location
    )
