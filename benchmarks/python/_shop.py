"""The payload that every side carries: about 200 bytes as JSON."""

from __future__ import annotations

from typing import TypedDict

from pydantic import BaseModel, ConfigDict


class Payload(TypedDict):
    """The fields of a place-order command and of its event."""

    order_id: str
    product_id: str
    quantity: int
    notes: str


NOTES = "leave it with the neighbour on the left, ring twice; " * 2


class PlainOrder(BaseModel):
    """The same fields as a plain pydantic model, as strict as ours."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    order_id: str
    product_id: str
    quantity: int
    notes: str = ""


def payload(number: int) -> Payload:
    """Returns the fields of order `number`."""
    return {
        "order_id": f"order-{number:08d}-{number * 7919 % 999_983:06d}",
        "product_id": "sku_42",
        "quantity": 3,
        "notes": NOTES,
    }
