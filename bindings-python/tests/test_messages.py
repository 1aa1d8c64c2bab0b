"""Messages: construction, names, stamps, and payloads that are refused."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from orkestra import Command, Event, Metadata, Orkestra, id_of, metadata_of
from orkestra._names import type_name_for
from orkestra.errors import (
    DuplicateTypeError,
    EmptyTopicError,
    InvalidTypeNameError,
    NotJsonError,
    NotStampedError,
    TooDeepError,
    TooLargeError,
    TopicConflictError,
)
from orkestra.testing import START
from shop import OrderPlaced, PlaceOrder

if TYPE_CHECKING:
    from pathlib import Path

ID = "019506b8-9d2a-7c3e-8f00-0123456789ab"


class Anything(Event):
    value: Any


async def append(app: Orkestra, value: Any) -> None:
    await app.store.append("s", [Anything(value=value)])


@pytest.fixture
def app() -> Orkestra:
    return Orkestra("shop", store="memory:")


def test_bad_input_unknown_missing_and_wrong_fields_are_all_named() -> None:
    with pytest.raises(ValidationError) as refused:
        PlaceOrder(product="x", quantity="many")  # type: ignore[call-arg, arg-type]
    wrong = {error["loc"]: error["type"] for error in refused.value.errors()}
    assert wrong == {
        ("product",): "extra_forbidden",
        ("product_id",): "missing",
        ("quantity",): "int_parsing",
    }


def test_messages_cannot_be_changed() -> None:
    event = OrderPlaced(order_id="o-1")
    with pytest.raises(ValidationError):
        event.order_id = "o-2"
    with pytest.raises(ValidationError):
        event.more = 1  # type: ignore[attr-defined]


async def test_equality_is_type_and_payload(app: Orkestra) -> None:
    one, two = OrderPlaced(order_id="o-1"), OrderPlaced(order_id="o-1")
    await app.publish(one)
    assert one == two
    assert hash(one) == hash(two)
    assert one != OrderPlaced(order_id="o-2")
    other: Event = Anything(value=1)
    assert one != other


async def test_payload_names_belong_to_the_user(app: Orkestra) -> None:
    class Mine(Event):
        id: str
        type: int
        metadata: dict[str, str]
        data: str = ""

    event = Mine(id="mine", type=7, metadata={"a": "b"})
    await app.store.append("s", [event])
    app.add_types(Mine)
    (recorded,) = [r async for r in app.store.read_stream("s")]
    assert recorded.event == event
    assert recorded.event.id == "mine"
    assert id_of(recorded.event) == id_of(event) != "mine"


def test_what_was_not_sent_has_no_id() -> None:
    with pytest.raises(NotStampedError) as refused:
        id_of(PlaceOrder(product_id="a", quantity=1))
    assert refused.value.details == {"type_name": "Shop.PlaceOrder"}
    for other in (object(), 1, None, PlaceOrder):
        with pytest.raises(NotStampedError):
            metadata_of(other)


async def test_copies_and_pickles_are_without_the_stamp(app: Orkestra) -> None:
    event = OrderPlaced(order_id="o-1")
    await app.publish(event)
    copies = [
        event.model_copy(),
        event.model_copy(update={"quantity": 1}),
        copy.copy(event),
        copy.deepcopy(event),
        pickle.loads(pickle.dumps(event)),
    ]
    for other in copies:
        assert other == event
        with pytest.raises(NotStampedError):
            id_of(other)


def test_a_parameter_says_what_the_result_is() -> None:
    class Count(Command[list[int]]):
        sku: str

    class CountAgain(Count):
        pass

    assert Count.__mro__[1] is Command
    assert Count.__orkestra_result__ == list[int]
    assert CountAgain.__orkestra_result__ == list[int]
    assert PlaceOrder.__orkestra_result__ is Any


@pytest.mark.parametrize(
    ("module", "name", "type_name"),
    [
        ("my_app.orders.commands", "PlaceOrder", "MyApp.Orders.Commands.PlaceOrder"),
        ("my_app._orders", "_PlaceOrder", "MyApp.Orders.PlaceOrder"),
        ("my_app.place_order", "PlaceOrder", "MyApp.PlaceOrder"),
        ("shop", "HTTPCall", "Shop.HTTPCall"),
    ],
)
def test_type_names_come_from_the_module(
    module: str, name: str, type_name: str
) -> None:
    assert type_name_for(module, name) == type_name


def test_a_program_and_its_import_name_types_alike(tmp_path: Path) -> None:
    package = tmp_path / "my_app"
    package.mkdir()
    (package / "__init__.py").touch()
    text = (
        "from orkestra import Command\n"
        "class PlaceOrder(Command):\n    pass\n"
        "print(PlaceOrder.__orkestra_type__.type_name)\n"
    )
    (package / "__main__.py").write_text(text)
    (package / "orders.py").write_text(text)
    for args, name in [
        (["-m", "my_app"], "MyApp.PlaceOrder"),
        (["-m", "my_app.orders"], "MyApp.Orders.PlaceOrder"),
        (["-c", "import my_app.orders"], "MyApp.Orders.PlaceOrder"),
        ([str(package / "orders.py")], "Orders.PlaceOrder"),
    ]:
        done = subprocess.run(
            [sys.executable, *args],
            cwd=tmp_path,
            env={"PYTHONPATH": ":".join([*sys.path, str(tmp_path)])},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == name


def test_bad_input_a_message_class_defined_twice(app: Orkestra) -> None:
    class Again(Event, type_name="Shop.OrderPlaced"):
        pass

    class Alias(Event, aliases=["Shop.OrderPlaced"]):
        pass

    class Same(Event, type_name="OrderPlaced"):
        pass

    app.add_types(OrderPlaced, OrderPlaced)
    for other in (Again, Alias):
        with pytest.raises(DuplicateTypeError) as refused:
            app.add_types(other)
        assert refused.value.first == "shop.OrderPlaced"
    with pytest.raises(TopicConflictError):
        app.add_types(Same)


def test_bad_input_type_names(app: Orkestra) -> None:
    class Lower(Event, type_name="1.2"):
        pass

    class Empty(Event, type_name="Shop"):
        pass

    with pytest.raises(InvalidTypeNameError):
        app.add_types(Lower)
    with pytest.raises(EmptyTopicError):
        app.add_types(Empty)
    with pytest.raises(ValueError, match="version"):
        type("Wrong", (Event,), {"__module__": "shop"}, version=0)
    with pytest.raises(TypeError, match="aliases"):
        type("Wrong", (Event,), {"__module__": "shop"}, aliases="Old")


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), [-float("inf")], object(), b"\xff"]
)
async def test_bad_input_values_that_json_cannot_hold(
    app: Orkestra, value: Any
) -> None:
    with pytest.raises(NotJsonError):
        await append(app, value)
    assert await app.store.head() is None


async def test_bad_input_a_cycle(app: Orkestra) -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises((NotJsonError, TooDeepError)):
        await append(app, cycle)


async def test_bad_input_deep_nesting(app: Orkestra) -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises((TooDeepError, NotJsonError)):
        await append(app, deep)
    shallow: list[Any] = []
    for _ in range(130):
        shallow = [shallow]
    with pytest.raises(TooDeepError):
        await append(app, shallow)


async def test_bad_input_a_payload_over_the_limit(app: Orkestra) -> None:
    with pytest.raises(TooLargeError) as refused:
        await append(app, "x" * (50 * 1024 * 1024))
    assert refused.value.limit == 1024 * 1024
    wide = Orkestra("shop", store="memory:", max_payload_bytes=3 * 1024 * 1024)
    await append(wide, "x" * (2 * 1024 * 1024))


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4
            )
        ),
        max_leaves=20,
    )
)
def test_payloads_come_back_as_they_were(value: Any) -> None:
    app = Orkestra("shop", store="memory:").add_types(Anything)
    event = Anything(value=value)
    app.store.append("s", [event]).wait()
    (recorded,) = app.store.read_stream("s")
    assert recorded.event == event
    app.close().wait()


async def test_aliases_and_computed_fields_come_back(app: Orkestra) -> None:
    class Named(Event):
        order_id: str = Field(alias="orderId")

    event = Named(orderId="o-1")
    app.add_types(Named)
    await app.store.append("s", [event])
    (recorded,) = [r async for r in app.store.read_stream("s")]
    assert recorded.event == event
    assert b'"orderId":"o-1"' in recorded.data


def test_metadata_is_a_value() -> None:
    metadata = Metadata(
        correlation_id="req-1", actor_id="user_1", actor_type="user", issued_at=START
    )
    derived = metadata.derive(ID, START)
    assert derived.causation_id == ID
    assert derived.actor_id == "user_1"
    assert derived.correlation_id == "req-1"
    assert derived != metadata
    assert pickle.loads(pickle.dumps(derived)) == derived
    assert copy.deepcopy(derived) == derived
    assert hash(copy.copy(derived)) == hash(derived)
    assert "actor_id='user_1'" in repr(metadata)
    with pytest.raises(AttributeError):
        metadata.actor_id = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="time zone"):
        Metadata(correlation_id="a", issued_at=START.replace(tzinfo=None))
