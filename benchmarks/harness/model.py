"""What a benchmark row is: its sides, and the goals between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Runner = Literal["python", "node", "rust"]


@dataclass(frozen=True)
class Side:
    """One implementation of a job, measured in a process of its own.

    Attributes:
        label: The name printed, unique in its row.
        runner: The language that runs it.
        script: A file under `python/` or `node/` without its suffix, or a
            subcommand of the Rust binary.
        args: Arguments of the script; the first names the side in it.
        ours: Whether it needs Orkestra's own package.
    """

    label: str
    runner: Runner
    script: str
    args: tuple[str, ...] = ()
    ours: bool = False


@dataclass(frozen=True)
class Goal:
    """A bound on one side, or on its ratio to another side of the same row.

    Attributes:
        of: The label of the side the goal is about.
        against: The label it is divided by; None bounds the value itself.
        bound: The number to reach.
        sense: Whether the number is a ceiling or a floor; None only shows the
            ratio.
        measure: `value`, `rss_mib` for the process's peak resident memory, or
            the name of a number among the details.
    """

    of: str
    against: str | None
    bound: float = 0.0
    sense: Literal["at most", "at least"] | None = None
    measure: str = "value"


@dataclass(frozen=True)
class Row:
    """One job: the sides that do it and the goals of the project's table.

    Attributes:
        id: The short name that `--only` matches.
        title: What is measured, for people.
        sides: Run one after another in each round, in rotating order.
        goals: Judged on medians over all rounds.
        note: What a reader must know to judge the comparison.
        broker: Whether the sides need the private RabbitMQ node.
        database: Whether each side gets an empty PostgreSQL database.
        large: Whether it is run only when asked for, as it takes many minutes.
        most_rounds: More rounds than these are not run.
    """

    id: str
    title: str
    sides: tuple[Side, ...]
    goals: tuple[Goal, ...] = ()
    note: str = ""
    broker: bool = False
    database: bool = False
    large: bool = False
    most_rounds: int | None = None


@dataclass
class Samples:
    """What the rounds of one side gave."""

    side: Side
    unit: str = ""
    values: list[float] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    details: list[dict[str, object]] = field(default_factory=list)
    problem: str | None = None

    def of(self, measure: str) -> list[float]:
        """Returns a goal's measure, one number per round."""
        if measure == "value":
            return self.values
        if measure == "rss_mib":
            return self.rss_mib
        return [float(str(details[measure])) for details in self.details]


def ours(label: str, runner: Runner, script: str, *args: str) -> Side:
    """Returns a side that needs Orkestra's package."""
    return Side(label, runner, script, args, ours=True)


def python(label: str, script: str, *args: str) -> Side:
    """Returns a peer's side in Python."""
    return Side(label, "python", script, args)


def node(label: str, script: str, *args: str) -> Side:
    """Returns a peer's side in Node."""
    return Side(label, "node", script, args)


def at_most(of: str, bound: float, against: str | None) -> Goal:
    """Returns a ceiling."""
    return Goal(of, against, bound, "at most")


def at_least(of: str, bound: float, against: str | None) -> Goal:
    """Returns a floor."""
    return Goal(of, against, bound, "at least")
