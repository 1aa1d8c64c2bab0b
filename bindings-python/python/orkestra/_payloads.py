"""Payloads and results as pydantic writes and reads them, and its errors as ours."""

from __future__ import annotations

import sys
import typing
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from orkestra.errors import InvalidPayloadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from orkestra.messages import Command, Message


def holds_fields_only(kind: type[Message]) -> bool:
    """Whether instances of the class have no place for anything but their fields."""
    own = kind.__mro__[: kind.__mro__.index(BaseModel)]
    return not kind.__private_attributes__ and not any(
        isinstance(value, cached_property) or (name == "__slots__" and value)
        for base in own
        if base.__module__ != "orkestra.messages"
        for name, value in vars(base).items()
    )


def result_json(result: Any) -> bytes:
    """A handler's result as JSON.

    Raises:
        PydanticSerializationError: It has none.
    """
    return to_json(result, by_alias=True)


def result_decoder(command: type[Command[Any]]) -> Callable[[bytes], Any]:
    """What reads the result of a command: as the type that its class names."""
    kind: Any = command.__orkestra_result__
    if isinstance(kind, str):
        module = sys.modules[command.__module__]
        holder = SimpleNamespace(__annotations__={"result": kind})
        kind = typing.get_type_hints(holder, vars(module))["result"]
    if kind is Any or isinstance(kind, typing.TypeVar):
        return from_json
    return TypeAdapter(kind).validate_json


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
