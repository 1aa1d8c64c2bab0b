"""The services of both runtimes over HTTP, alone and together on one database."""

from __future__ import annotations

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from services import PATIENCE, PROGRAMS, database, service

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

RUNTIMES = sorted(PROGRAMS)


@pytest.fixture
def store() -> Iterator[str]:
    with database() as url:
        yield url


def post(client: httpx.Client, path: str, quantity: int) -> dict[str, Any]:
    answer = client.post(path, json={"quantity": quantity})
    assert answer.is_success, answer.text
    done: dict[str, Any] = answer.json()
    return done


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_was_done_can_be_read_in_the_view(runtime: str, store: str) -> None:
    with service(runtime, store) as client:
        first = post(client, "/stock/lamp/received", 5)
        second = post(client, "/stock/lamp/shipped", 2)
        assert (first["quantity"], second["quantity"]) == (5, 3)
        assert second["position"] > first["position"]
        for n in range(20):
            done = post(client, "/stock/chair/received", 1)
            read = client.get("/stock", params={"after": done["position"]})
            assert read.json() == {"chair": n + 1, "lamp": 3}

        history = client.get("/stock/lamp/history").json()
        assert [(e["revision"], e["quantity"]) for e in history] == [(0, 5), (1, 2)]
        assert history[0]["type"] == "Shop.Stock.Events.StockReceived"
        health = client.get("/health")
        assert (health.status_code, health.json()["ok"]) == (200, True)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_refusal_and_a_wrong_request_are_told_apart(runtime: str, store: str) -> None:
    with service(runtime, store) as client:
        post(client, "/stock/lamp/received", 1)
        refused = client.post("/stock/lamp/shipped", json={"quantity": 2})
        assert refused.status_code == 409
        assert refused.json() == {"error": "not enough in stock", "data": {"left": 1}}
        wrong = client.post("/stock/lamp/shipped", json={"quantity": 0})
        assert wrong.status_code in (400, 422)
        wrong = client.get("/stock", params={"after": "soon"})
        assert wrong.status_code in (400, 422)


@pytest.mark.parametrize("second", RUNTIMES)
@pytest.mark.parametrize("first", RUNTIMES)
def test_services_share_a_database_and_the_view_goes_on_with_who_is_left(
    first: str, second: str, store: str
) -> None:
    with service(first, store) as one:
        with service(second, store) as other:
            for n, client in enumerate((one, other, one), 1):
                done = post(client, "/stock/lamp/received", 10)
                assert done["quantity"] == 10 * n
            done = post(other, "/stock/lamp/received", 10)
            for client in (one, other):
                read = client.get("/stock", params={"after": done["position"]})
                assert read.json() == {"lamp": 40}
        done = post(one, "/stock/lamp/shipped", 15)
        read = one.get("/stock", params={"after": done["position"]})
        assert read.json() == {"lamp": 25}


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("keeper", "other"), [RUNTIMES, RUNTIMES[::-1]])
def test_who_keeps_the_view_is_killed_and_the_other_runtime_goes_on(
    keeper: str, other: str, store: str
) -> None:
    skus = [f"lamp-{n}" for n in range(4)]
    with service(keeper, store) as first:
        # It keeps the view: nobody else is there yet.
        done = post(first, "/stock/lamp-0/received", 1)
        assert first.get("/stock", params={"after": done["position"]}).is_success
        with service(other, store) as second:
            with ThreadPoolExecutor(2) as pool:
                # Both append at once, to the same streams.
                both = [pool.submit(_receive, one, skus * 5) for one in (first, second)]
                for one in both:
                    one.result()
            first.kill()
            done = post(second, "/stock/lamp-1/shipped", 3)
            wanted = {"lamp-0": 21, "lamp-1": 17, "lamp-2": 20, "lamp-3": 20}
            assert _read(second, done["position"]) == wanted
        # The one that was killed starts again, and keeps it once more.
        with service(keeper, store) as third:
            done = post(third, "/stock/lamp-2/received", 1)
            assert _read(third, done["position"]) == wanted | {"lamp-2": 21}


def _receive(client: httpx.Client, skus: list[str]) -> None:
    for sku in skus:
        post(client, f"/stock/{sku}/received", 2)


def _read(client: httpx.Client, position: int) -> dict[str, int]:
    """The view, when it is that far: who follows a dead keeper waits for its lease."""
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = client.get("/stock", params={"after": position})
        if answer.is_success or time.monotonic() > deadline:
            assert answer.status_code == 200, answer.text
            levels: dict[str, int] = answer.json()
            return levels


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_service_that_starts_again_goes_on(runtime: str, store: str) -> None:
    with service(runtime, store) as client:
        post(client, "/stock/lamp/received", 3)
    with service(runtime, store) as client:
        done = post(client, "/stock/lamp/received", 4)
        assert done["quantity"] == 7
        read = client.get("/stock", params={"after": done["position"]})
        assert read.json() == {"lamp": 7}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_database_that_is_not_there_ends_the_start(runtime: str, store: str) -> None:
    command = [*PROGRAMS[runtime], "--store", f"{store}_not", "--port", "0"]

    done = subprocess.run(command, check=False, capture_output=True, text=True)

    assert done.returncode != 0
