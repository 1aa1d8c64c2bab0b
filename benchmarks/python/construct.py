"""ns to make one message of four fields: `construct.py SIDE`."""

from __future__ import annotations

import sys
from time import perf_counter_ns

from _shop import PlainOrder, payload
from _timing import emit, median_ns

CALLS = 2_000


def measure(side: str) -> float:
    """Makes and drops messages of the side's class, by keyword as users do."""
    if side == "pydantic":
        model: type[PlainOrder] = PlainOrder
    else:
        from _ours import OrderPlaced

        model = OrderPlaced  # type: ignore[assignment]  # the same four fields
    fields = payload(1)
    order_id, notes = fields["order_id"], fields["notes"]

    def batch() -> int:
        start = perf_counter_ns()
        for _ in range(CALLS):
            model(order_id=order_id, product_id="sku_42", quantity=3, notes=notes)
        return perf_counter_ns() - start

    return median_ns(batch, CALLS)


if __name__ == "__main__":
    emit(measure(sys.argv[1]), "ns/message")
