"""A small FastAPI service: the stock of a shop, as events and as an SQL view.

    python examples/python/service/serve.py --store postgres://shop:secret@db/shop

`examples/node/service` is the same with NestJS. Both may run on one database: they
write the same events, and of the view's projection one of them at a time is active.
"""

from __future__ import annotations

import argparse

import uvicorn

from stock.api import build


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--store", required=True, help="postgres://user:password@…")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    uvicorn.run(build(given.store), host=given.host, port=given.port)


if __name__ == "__main__":
    main()
