"""The command ``orkestra worker`` with real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from orkestra import Command
from rabbit import DEADLETTERS, Host
from waiting import eventually, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of Unix")

SERVICE = """
import asyncio, os, time
from orkestra import Command, Orkestra

class Work(Command[int], type_name="Shop.Work"):
    number: int
    what: str = ""

class Block(Command[int], type_name="Shop.Block"):
    number: int

app = Orkestra("shop", store="memory:", close_timeout=20)
deep = type("Namespace", (), {"app": app, "number": 7})

def note(text):
    # One write: several processes share the file.
    with open("log", "a", buffering=1) as log:
        log.write(f"{os.getpid()} {text}\\n")

@app.command_handler(Work, concurrency=4, prefetch=20)
async def work(command: Work) -> int:
    note(f"begin {command.number}")
    if command.what == "die":
        os._exit(9)
    while command.what == "wait" and not os.path.exists("go"):
        await asyncio.sleep(0.01)
    note(f"end {command.number}")
    return os.getpid()

@app.command_handler(Block)
def block(command: Block) -> int:
    note(f"begin {command.number}")
    while not os.path.exists("go"):
        time.sleep(0.01)
    note(f"end {command.number}")
    return os.getpid()
"""

QUEUE = "orkestra.cmd.work"


class Work(Command[int], type_name="Shop.Work"):
    number: int
    what: str = ""


class Block(Command[int], type_name="Shop.Block"):
    number: int


class Worker:
    """A process of the command, and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(iter(self.process.stderr.readline, ""))

    def says(self, text: str, times: int = 1) -> bool:
        return sum(text in line for line in list(self.lines)) >= times

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ends(self, seconds: float = 20) -> int:
        code = self.process.wait(seconds)
        self._reading.join()
        assert not self.says("Traceback"), self.lines
        return code

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reading.join()
        if self.process.stderr is not None:
            self.process.stderr.close()


class Service:
    """Workers of the app above, in a folder of their own."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host, self.folder = host, folder
        (folder / "service.py").write_text(SERVICE)
        self.workers: list[Worker] = []

    def start(self, processes: int = 1, query: str = "") -> Worker:
        """Starts the command and waits until every process consumes."""
        more = ["--processes", str(processes)] if processes > 1 else []
        process = subprocess.Popen(
            [sys.executable, "-m", "orkestra", "worker", "service:app", *more],
            cwd=self.folder,
            env={**os.environ, "ORKESTRA_BUS": self.host.url + query},
            text=True,
            stderr=subprocess.PIPE,
        )
        worker = Worker(process)
        self.workers.append(worker)
        until(
            lambda: (
                worker.says("consumes 2 queues", processes)
                or process.poll() is not None
            ),
            "the worker consumes",
        )
        assert process.poll() is None, worker.lines
        return worker

    def go(self) -> None:
        """Lets the handlers that wait go on."""
        (self.folder / "go").touch()

    def log(self, word: str) -> list[tuple[int, int]]:
        """Process and number of what `word` was noted of."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.folder / "log").read_text().splitlines()
            parts = [line.split() for line in lines]
            return [(int(p), int(n)) for p, kind, n in parts if kind == word]
        return []

    def stop(self) -> None:
        for worker in self.workers:
            worker.stop()


@pytest.fixture
def service(host: Host, tmp_path: Path) -> Iterator[Service]:
    service = Service(host, tmp_path)
    yield service
    service.stop()


async def send(host: Host, *commands: Command[Any]) -> None:
    async with host.app("sender") as app:
        await asyncio.gather(*(app.send(command) for command in commands))


async def test_k16_sigterm_finishes_what_is_in_hand(service: Service) -> None:
    worker = service.start()
    orders = [Work(number=n, what="wait") for n in range(30)]
    await send(service.host, *orders)
    await eventually(lambda: len(service.log("begin")) == 4)
    worker.send(signal.SIGTERM)
    await eventually(lambda: service.host.depth(QUEUE) == 26)
    service.go()
    assert await asyncio.to_thread(worker.ends) == 0
    assert len(service.log("end")) == 4
    # The broker may have forgotten the last acknowledgements: at least once.
    assert 26 <= service.host.depth(QUEUE) <= 30


@pytest.mark.parametrize("blocking", [False, True])
async def test_a_second_signal_stops_at_once(service: Service, blocking: bool) -> None:
    worker = service.start()
    order = Block(number=1) if blocking else Work(number=1, what="wait")
    await send(service.host, order)
    await eventually(lambda: service.log("begin"))
    worker.send(signal.SIGTERM)
    await eventually(lambda: worker.says("stops, as signal 15 says"))
    worker.send(signal.SIGINT)
    assert await asyncio.to_thread(worker.ends) == 130
    assert service.log("end") == []
    queue = "orkestra.cmd.block" if blocking else QUEUE
    await eventually(lambda: service.host.depth(queue) == 1)


async def test_k09_a_killed_worker_loses_nothing(service: Service) -> None:
    first = service.start()
    await send(service.host, *(Work(number=n, what="wait") for n in range(50)))
    await eventually(lambda: len(service.log("begin")) == 4)
    second = service.start()
    first.stop()
    service.go()
    await eventually(lambda: len({n for _, n in service.log("end")}) == 50)
    # Nothing was finished twice.
    assert len(service.log("end")) == 50
    second.send(signal.SIGINT)
    assert await asyncio.to_thread(second.ends) == 0


async def test_k21_what_kills_its_process_ends_as_a_dead_letter(
    service: Service,
) -> None:
    host = service.host
    supervisor = service.start(2, "?crash_limit=2")
    await send(host, Work(number=1, what="die"))
    await eventually(lambda: host.depth(DEADLETTERS) == 1, 25)
    await send(host, Work(number=2))
    await eventually(lambda: [n for _, n in service.log("end")] == [2])
    supervisor.send(signal.SIGTERM)
    await asyncio.to_thread(supervisor.ends)
    async with host.app() as app:
        (letter,) = await app.dead_letters.broker()
    assert letter.reason == "crash_limit"
    assert len(service.log("begin")) - 1 in (2, 3)


async def test_processes_share_the_work(service: Service) -> None:
    supervisor = service.start(3)
    async with service.host.app("sender") as app:
        found: set[int] = set()

        async def all_three() -> bool:
            asked = (app.dispatch(Work(number=n)) for n in range(30))
            found.update(await asyncio.gather(*asked))
            return len(found) == 3

        await eventually(all_three)
        # One that dies is started again.
        os.kill(found.pop(), signal.SIGKILL)
        found.clear()
        await eventually(all_three)
    supervisor.send(signal.SIGTERM)
    assert await asyncio.to_thread(supervisor.ends) in (0, 1)
    assert supervisor.says("stops, as signal 15 says", 3)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("nowhere:app", "there is no module nowhere"),
        ("service.deeper:app", "there is no module service.deeper"),
        ("service:shop", "service has no attribute shop"),
        ("service:note", "service:note is no Orkestra app, but of type function"),
        ("service:deep.number", "is no Orkestra app, but of type int"),
        ("./service.py", "expected module:app, found './service.py'"),
        ("", "expected module:app"),
    ],
)
def test_a_wrong_target_says_what_is_wrong(
    tmp_path: Path, target: str, reason: str
) -> None:
    (tmp_path / "service.py").write_text(SERVICE)
    done = _orkestra(tmp_path, "worker", target)
    assert done.returncode == 1
    assert done.stderr.startswith("orkestra: target: ")
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_a_module_that_fails_shows_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text("import does_not_exist_anywhere")
    done = _orkestra(tmp_path, "worker", "service")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "does_not_exist_anywhere" in done.stderr


def test_a_worker_without_its_broker_says_so(tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(SERVICE)
    done = _orkestra(tmp_path, "worker", "service", bus="amqp://localhost:1")
    assert done.returncode == 1
    assert "orkestra: the broker is unavailable" in done.stderr


def test_wrong_arguments_are_told(tmp_path: Path) -> None:
    assert _orkestra(tmp_path, "--version").stdout.startswith("orkestra ")
    assert _orkestra(tmp_path, "wrok").returncode == 2
    assert _orkestra(tmp_path, "worker", "a:b", "--processes", "0").returncode == 2


def _orkestra(
    folder: Path, *arguments: str, bus: str = "memory:"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orkestra", *arguments],
        cwd=folder,
        env={**os.environ, "ORKESTRA_BUS": bus},
        text=True,
        capture_output=True,
        timeout=30,
        check=False,
    )


RUNS = """
import asyncio, sys
from orkestra import Orkestra

app = Orkestra("shop", store="memory:")

async def main():
    print("runs", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        print("cut", flush=True)

print("ended with", app.run(main if sys.argv[1] == "main" else None), app.is_closed)
"""


@pytest.mark.parametrize(
    ("main", "number", "code", "last"),
    [
        (True, signal.SIGTERM, 143, "cut"),
        (True, signal.SIGINT, 1, "cut"),
        (False, signal.SIGTERM, 0, "ended with None True"),
        (False, signal.SIGINT, 0, "ended with None True"),
    ],
)
def test_a_program_is_told_to_stop(
    tmp_path: Path, main: bool, number: signal.Signals, code: int, last: str
) -> None:
    (tmp_path / "program.py").write_text(RUNS)
    process = subprocess.Popen(
        [sys.executable, "-c", _signalled(), "main" if main else "none"],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() in ("runs\n", "started\n")
    process.send_signal(number)
    out, errors = process.communicate(timeout=20)
    assert out.splitlines()[-1] == last, errors
    # Ended by KeyboardInterrupt, Python ends by the signal itself.
    assert process.returncode in (code, -number), errors


def _signalled() -> str:
    """The program, which says when it is started."""
    return """
import runpy, sys
from orkestra import Orkestra

start = Orkestra._start

async def say(self):
    await start(self)
    if sys.argv[1] == "none":
        print("started", flush=True)

Orkestra._start = say
runpy.run_path("program.py")
"""
