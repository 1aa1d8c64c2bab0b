"""The scripts of tests/vectors/store, which Rust and Node run too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orkestra import Event, Orkestra, OrkestraError, RecordedEvent, id_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from orkestra import Subscription

FOLDER = Path(__file__).parents[2] / "tests" / "vectors" / "store"


class OrderPlaced(Event, type_name="Shop.Orders.Events.OrderPlaced"):
    order_id: str


class OrderShipped(Event, type_name="Shop.Orders.Events.OrderShipped"):
    order_id: str


class ItemAdded(Event, type_name="Shop.Carts.Events.ItemAdded"):
    quantity: int


class NoteTaken(Event, type_name="Shop.Notes.Events.NoteTaken"):
    note: Any


CLASSES = (OrderPlaced, OrderShipped, ItemAdded, NoteTaken)
BY_TYPE = {kind.__orkestra_type__.type_name: kind for kind in CLASSES}

FILES = {
    file.stem: json.loads(file.read_text(encoding="utf-8"))
    for file in sorted(FOLDER.glob("*.json"))
}
CASES = [(name, case) for name, file in FILES.items() for case in file["cases"]]
STORES = ("memory", "sqlite", "postgres")
RUNS = [
    pytest.param(store, name, case, id=f"{store}-{name}-{case['id']}")
    for store in STORES
    for name, case in CASES
    # What is in memory cannot be opened again.
    if store != "memory" or case.get("needs") != "durable"
]


class Script:
    """One case on one store."""

    def __init__(self, store: str, file: dict[str, Any]) -> None:
        self._store = store
        self._specs = file["events"]
        self._made: dict[str, Event] = {}
        self._readers: dict[str, Subscription] = {}
        self.variables: dict[str, Any] = {}

    async def open(self) -> None:
        """An app without handlers."""
        self._app = Orkestra("shop", store=self._store, app_prefix="Shop")
        await self._app.add_types(*CLASSES).start()

    async def close(self) -> None:
        """Readers and app."""
        for reader in self._readers.values():
            await reader.close()
        self._readers.clear()
        await self._app.close()

    def event(self, name: str) -> Event:
        """The event that a name stands for, always the same object."""
        if name not in self._made:
            spec = self._specs[name]
            self._made[name] = BY_TYPE[spec["type"]](**spec["data"])
        return self._made[name]

    def value(self, given: Any) -> Any:
        """What is given, a variable that has a value by that."""
        return self.variables.get(given, given) if isinstance(given, str) else given

    async def call(self, call: dict[str, Any]) -> Any:
        """Makes a call and gives its result as data."""
        arguments = {k: self.value(v) for k, v in call.get("arguments", {}).items()}
        method: Callable[..., Any] = getattr(self, f"_{call['call']}")
        return await method(**arguments)

    def _recorded(self, recorded: RecordedEvent) -> dict[str, Any]:
        ids = {id_of(event): name for name, event in self._made.items()}
        name = ids[recorded.id]
        spec = self._specs[name]
        assert recorded.type == spec["type"]
        assert json.loads(recorded.data) == spec["data"]
        assert recorded.event == self._made[name]
        return {
            "event": name,
            "stream": recorded.stream,
            "revision": recorded.revision,
            "position": recorded.position,
        }

    async def _append(
        self, stream: str, events: list[str], expected: Any = "any"
    ) -> Any:
        made = [self.event(name) for name in events]
        return vars(await self._app.store.append(stream, made, expected))

    async def _append_many(self, appends: list[dict[str, Any]]) -> Any:
        given = [
            (
                one["stream"],
                [self.event(name) for name in one["events"]],
                self.value(one["expected"]),
            )
            for one in appends
        ]
        return [vars(done) for done in await self._app.store.append_many(given)]

    async def _read_stream(self, stream: str, **options: Any) -> Any:
        reading = self._app.store.read_stream(stream, **options)
        return [self._recorded(recorded) async for recorded in reading]

    async def _read_all(self, **options: Any) -> Any:
        reading = self._app.store.read_all(**options)
        return [self._recorded(recorded) async for recorded in reading]

    async def _head(self) -> Any:
        return await self._app.store.head()

    async def _stream_exists(self, stream: str) -> Any:
        return await self._app.store.stream_exists(stream)

    async def _delete_stream(self, stream: str, **options: Any) -> Any:
        return await self._app.store.delete_stream(stream, **options)

    async def _subscribe(self, reader: str, **options: Any) -> None:
        self._readers[reader] = await self._app.subscribe(**options).open()

    async def _next(self, reader: str) -> Any:
        async for batch in self._readers[reader].batches():
            events = [self._recorded(recorded) for recorded in batch.events]
            return {"events": events, "position": batch.position}
        return None

    async def _ack(self, reader: str, position: int) -> None:
        await self._readers[reader].ack(position)

    async def _close_reader(self, reader: str) -> None:
        await self._readers.pop(reader).close()

    async def _caught_up(self, name: str, position: int, timeout: float = 10) -> None:
        await self._app.caught_up(name, position, timeout=timeout)

    async def _reopen(self) -> None:
        await self.close()
        await self.open()

    def agrees(self, wanted: Any, found: Any) -> bool:
        """Whether `found` is what the script says; names variables."""
        if isinstance(wanted, str) and wanted.startswith("$"):
            return bool(self.variables.setdefault(wanted, found) == found)
        if isinstance(wanted, dict):
            return isinstance(found, dict) and all(
                key in found and self.agrees(value, found[key])
                for key, value in wanted.items()
            )
        if isinstance(wanted, list):
            return (
                isinstance(found, list)
                and len(wanted) == len(found)
                and all(map(self.agrees, wanted, found))
            )
        return type(wanted) is type(found) and bool(wanted == found)


@pytest.mark.parametrize(("store", "name", "case"), RUNS, indirect=["store"])
async def test_a_script_gives_what_it_says(
    store: str, name: str, case: dict[str, Any]
) -> None:
    case_id = case["id"]
    script = Script(store, FILES[name])
    await script.open()
    try:
        for number, call in enumerate(case["calls"]):
            where = f"{case_id}, call {number}: {call}"
            if "error" in call:
                with pytest.raises(OrkestraError) as raised:
                    await script.call(call)
                error = {"code": raised.value.code, "details": raised.value.details}
                assert script.agrees(call["error"], error), (where, error)
                continue
            found = await script.call(call)
            if "result" in call:
                assert script.agrees(call["result"], found), (where, found)
        values = [script.variables[name] for name in case.get("increasing", [])]
        assert values == sorted(set(values))
    finally:
        await script.close()
