"""Forks, threads and several loops."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from orkestra import Orkestra, id_of
from orkestra.errors import ForkedError
from shop import AddStock, OrderPlaced, PlaceOrder, StockItem, append_one

if TYPE_CHECKING:
    from collections.abc import Callable

ORDER = PlaceOrder(product_id="sku_42", quantity=3)


def shop(store: str = "memory:") -> Orkestra:
    app = Orkestra("shop", store=store)

    @app.command_handler(PlaceOrder)
    def place_order(command: PlaceOrder) -> dict[str, str]:
        return {"id": id_of(command)}

    return app


def in_child(check: Callable[[], object]) -> str:
    """What `check` gives in a forked child, or its error; fails if it hangs."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            try:
                answer = repr(check())
            except BaseException as error:  # the answer
                answer = f"{type(error).__name__}: {error}"
            os.write(write, answer.encode()[:4000])
        finally:
            os._exit(0)
    os.close(write)
    done = threading.Event()

    def kill() -> None:
        if not done.wait(20):
            os.kill(child, 9)

    watch = threading.Thread(target=kill)
    watch.start()
    with os.fdopen(read) as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    done.set()
    watch.join()
    return answer or f"it ended with {os.waitstatus_to_exitcode(status)}"


pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


# gunicorn's preload: the module is imported, the app is made, then it forks.
PRELOADED = """
import os, sys
from orkestra import Event, Orkestra

class Placed(Event):
    n: int

app = Orkestra("shop", store=sys.argv[1])

def use():
    done = app.store.append("s", [Placed(n=1)]).wait()
    app.close().wait()
    return done.revision

for n in range(2):
    child = os.fork()
    if child == 0:
        print(use(), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
print(use())
"""


def test_fork_an_app_that_was_not_used_works_in_the_child(sqlite: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRELOADED, sqlite],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stdout.split() == ["0", "1", "2"]


OPENED = """
import os, sys
from orkestra import Event, Orkestra

class Placed(Event):
    n: int

parent = Orkestra("shop", store=sys.argv[1])
parent.store.append("s", [Placed(n=1)]).wait()
child = os.fork()
if child == 0:
    # SQLite itself does not survive a fork, whatever file it is.
    fresh = Orkestra("shop", store=sys.argv[1] + ".other")
    try:
        fresh.store.append("s", [Placed(n=1)]).wait()
    except Exception as error:
        print(type(error).__name__, flush=True)
    memory = Orkestra("shop", store="memory:")
    print(memory.store.append("s", [Placed(n=1)]).wait().revision, flush=True)
    os._exit(0)
os.waitpid(child, 0)
parent.close().wait()
"""


def test_fork_no_file_is_opened_in_the_child_of_a_process_that_had_one_open(
    sqlite: str,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OPENED, sqlite],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stdout.split() == ["CannotOpenStoreError", "0"]


def test_fork_an_app_that_was_used_says_so_in_the_child(store: str) -> None:
    app = shop(store)
    app.store.append("s", [OrderPlaced(order_id="o")]).wait()
    calls: list[Callable[[], object]] = [
        lambda: app.dispatch(ORDER).wait(),
        lambda: asyncio.run(as_coroutine(app.dispatch(ORDER))),
        lambda: app.store.append("s", [OrderPlaced(order_id="o")]).wait(),
        lambda: app.publish(OrderPlaced(order_id="o")).wait(),
        lambda: app.send(ORDER).wait(),
        lambda: app.start().wait(),
        lambda: app.dead_letters.list().wait(),
        lambda: list(app.store.read_all()),
    ]
    for call in calls:
        answer = in_child(call)
        assert answer.startswith("ForkedError: the app shop was started in process")
        assert str(os.getpid()) in answer
    assert in_child(lambda: app.close().wait()) == "None"
    # The parent goes on.
    app.store.append("s", [OrderPlaced(order_id="o")]).wait()
    app.close().wait()


async def as_coroutine(call: Any) -> Any:
    return await call


def test_fork_with_a_loop_thread(store: str) -> None:
    app = Orkestra("shop", store="memory:")

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> dict[str, str]:
        await asyncio.sleep(0)
        return {}

    app.dispatch(ORDER).wait()
    assert in_child(lambda: app.dispatch(ORDER).wait()).startswith("ForkedError")
    fresh = shop()
    assert in_child(lambda: bool(fresh.dispatch(ORDER).wait())) == "True"
    app.close().wait()


def test_fork_ids_differ_between_parent_and_children() -> None:
    app = shop()
    answers = {in_child(lambda: app.dispatch(ORDER).wait()) for _ in range(3)}
    answers.add(repr(app.dispatch(ORDER).wait()))
    assert len(answers) == 4


async def test_fork_from_inside_a_running_loop() -> None:
    app = shop()
    await app.start()

    def check() -> object:
        asyncio.events._set_running_loop(None)
        return app.dispatch(ORDER).wait()

    assert in_child(check).startswith("ForkedError")
    await app.close()


def test_multiprocessing_shares_the_file(sqlite: str) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=append_one, args=(sqlite,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(25)
        assert worker.exitcode == 0
    app = shop(sqlite)
    assert len(list(app.store.read_stream("s"))) == 2
    app.close().wait()


def test_fork_multiprocessing_workers_say_so_or_work(sqlite: str) -> None:
    used, fresh = shop(sqlite), shop()
    used.add_types(OrderPlaced)
    used.store.append("s", [OrderPlaced(order_id="o-1")]).wait()
    context = multiprocessing.get_context("fork")

    for _ in range(5):
        answers = context.SimpleQueue()
        worker = context.Process(target=_use_both, args=(used, fresh, answers))
        worker.start()
        worker.join(25)
        assert worker.exitcode == 0
        assert answers.get() == ("ForkedError", True)
    used.close().wait()


def _use_both(
    used: Orkestra, fresh: Orkestra, answers: multiprocessing.SimpleQueue[Any]
) -> None:
    try:
        used.store.append("s", []).wait(5)
    except ForkedError as error:
        done = fresh.dispatch(ORDER).wait(5)
        answers.put((type(error).__name__, "id" in done))


def test_fork_the_error_names_the_parent() -> None:
    assert ForkedError.code == "ORK_APP_FORKED"


def threads(count: int, function: Callable[[int], object]) -> list[object]:
    """What `function` gives on each of so many threads at once."""
    results: list[object] = [None] * count
    barrier = threading.Barrier(count)

    def run(n: int) -> None:
        barrier.wait()
        try:
            results[n] = function(n)
        except BaseException as error:  # the result
            results[n] = error

    all_ = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in all_:
        thread.start()
    for thread in all_:
        thread.join()
    return results


def test_threads_wait_at_the_same_time(store: str) -> None:
    app = shop(store)
    app.add_aggregate(StockItem)

    def use(n: int) -> object:
        for i in range(20):
            app.dispatch(ORDER).wait()
            app.store.append(f"s-{n}", [OrderPlaced(order_id=str(i))]).wait()
            app.execute(StockItem, AddStock(sku=str(n), quantity=1)).wait()
        return (
            app.execute(StockItem, AddStock(sku=str(n), quantity=0)).wait().state.total
        )

    assert threads(8, use) == [20] * 8
    assert len(list(app.store.read_all())) == 8 * 40
    app.close().wait()


def test_threads_may_each_have_a_loop(store: str) -> None:
    app = Orkestra("shop", store=store)

    @app.command_handler(PlaceOrder, concurrency=2)
    async def place_order(command: PlaceOrder) -> dict[str, str]:
        await asyncio.sleep(0)
        return {}

    def use(n: int) -> object:
        async def main() -> int:
            for i in range(10):
                await asyncio.gather(*(app.dispatch(ORDER) for _ in range(5)))
                await app.store.append(f"s-{n}", [OrderPlaced(order_id=str(i))])
            return len([r async for r in app.store.read_stream(f"s-{n}")])

        return asyncio.run(main())

    assert threads(4, use) == [10] * 4
    app.close().wait()


def test_loops_come_and_go(store: str) -> None:
    app = Orkestra("shop", store=store)

    async def main(n: int) -> int:
        await app.store.append("s", [OrderPlaced(order_id=str(n))])
        waiting = asyncio.create_task(anext(app.subscribe(start="now")))
        await asyncio.sleep(0)
        waiting.cancel()
        return len([r async for r in app.store.read_stream("s")])

    assert [asyncio.run(main(n)) for n in range(5)] == [1, 2, 3, 4, 5]
    app.close().wait()


def test_uvloop_is_a_loop_too(store: str) -> None:
    import uvloop

    app = Orkestra("shop", store=store)
    seen: list[str] = []

    @app.event_handler(OrderPlaced)
    async def note(event: OrderPlaced) -> None:
        seen.append(event.order_id)

    async def main() -> None:
        async with app:
            done = None
            for n in range(20):
                done = await app.store.append("s", [OrderPlaced(order_id=str(n))])
            assert done is not None
            assert done.position is not None
            await app.caught_up("note", done.position)

    uvloop.run(main())
    assert seen == [str(n) for n in range(20)]


def test_a_loop_without_readers_is_woken_all_the_same(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Orkestra("shop", store=store)

    class Loop(asyncio.SelectorEventLoop):
        def add_reader(self, *args: Any) -> None:  # type: ignore[override]
            raise NotImplementedError

    async def main() -> int:
        for n in range(5):
            await app.store.append("s", [OrderPlaced(order_id=str(n))])
        return len([r async for r in app.store.read_stream("s")])

    loop = Loop.__new__(Loop)
    # Its own pipe is made before we take the method away.
    monkeypatch.setattr(Loop, "add_reader", asyncio.SelectorEventLoop.add_reader)
    loop.__init__()  # type: ignore[misc]
    monkeypatch.undo()
    try:
        assert loop.run_until_complete(main()) == 5
    finally:
        loop.close()
    app.close().wait()
