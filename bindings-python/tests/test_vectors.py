"""The facts of tests/vectors, which Rust and Node check too."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

import orkestra
import orkestra.testing
from orkestra import RetryPolicy, _orkestra, _times, errors

if TYPE_CHECKING:
    from datetime import datetime

VECTORS = Path(__file__).parents[2] / "tests" / "vectors"


def vector(name: str) -> Any:
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


def test_topics() -> None:
    rows = vector("topics.json")
    assert len(rows) > 100
    for row in rows:
        prefix = row["app_prefix"] or ""
        if row["topic"]:
            assert _orkestra.topic_of(row["type"], prefix) == row["topic"], row
        else:
            with pytest.raises(errors.MessageError):
                _orkestra.topic_of(row["type"], prefix)


def test_patterns() -> None:
    for row in vector("patterns.json"):
        found = _orkestra.topic_matches(row["pattern"], row["topic"])
        assert found is row["matches"], row


def test_retry_delays() -> None:
    for row in vector("retry.json")["delays"]:
        delay = RetryPolicy(**row["policy"]).delay(row["retry"], row["draw"])
        assert round(delay * 1e6) == row["delay_us"], row


def test_retry_wants() -> None:
    for row in vector("retry.json")["wants"]:
        policy = RetryPolicy(**row["policy"])
        assert policy._native.wants(row["error_types"]) is row["wants"], row


def test_retry_policies_that_are_refused() -> None:
    for row in vector("retry.json")["invalid"]:
        with pytest.raises(errors.InvalidRetryPolicyError) as refused:
            RetryPolicy(**row["policy"])
        assert refused.value.details["field"] == row["field"]


def test_ids() -> None:
    ids = vector("ids.json")
    for row in ids["derived"]:
        made = _orkestra.event_id_for(row["command_id"], row["index"])
        assert made == row["event_id"]
    for row in ids["invalid"]:
        with pytest.raises(errors.InvalidIdError):
            _orkestra.event_id_for(row["text"], 0)


def time(text: str) -> datetime:
    micros = _orkestra.parse_time(text)
    assert micros is not None
    return _times.from_micros(micros)


def metadata(fields: dict[str, Any]) -> orkestra.Metadata:
    return _orkestra.metadata_from_dict(fields)


def test_envelopes_are_written_as_these_bytes() -> None:
    for row in vector("envelopes.json")["write"]:
        command, event = row.get("command"), row.get("event")
        message = command or event
        payload = message["params"] if command else message["data"]
        encoded = json.dumps(
            payload, ensure_ascii=False, separators=(",", ":")
        ).encode()
        if command:
            body = _orkestra.encode_command(
                type=command["type"],
                id=command["id"],
                payload=encoded,
                metadata=metadata(command["metadata"]),
                status=command["status"],
                attempts=command["attempts"],
                max_retries=command["max_retries"],
            )
        else:
            body = _orkestra.encode_event(
                type=event["type"],
                id=event["id"],
                version=event["version"],
                payload=encoded,
                metadata=metadata(event["metadata"]),
                occurred_at=time(event["occurred_at"]),
            )
        assert body.decode() == row["body"], row["name"]


def test_envelopes_are_read_as_these_fields() -> None:
    for row in vector("envelopes.json")["read"]:
        received_at = time(row["received_at"]) if "received_at" in row else None
        body = row["body"].encode()
        if "error" in row:
            with pytest.raises(errors.OrkestraError) as refused:
                _orkestra.decode_envelope(body, received_at)
            assert refused.value.code == row["error"]["code"], row["name"]
            field = row["error"].get("field")
            assert field is None or refused.value.details["field"] == field
            continue
        decoded = _orkestra.decode_envelope(body, received_at)
        wanted = row.get("command") or row["event"]
        payload = wanted["params"] if "command" in row else wanted["data"]
        assert json.loads(decoded["payload"]) == payload, row["name"]
        assert decoded["metadata"].to_dict() == wanted["metadata"], row["name"]
        for key in ("type", "id", "status", "attempts", "max_retries", "version"):
            if key in wanted:
                assert decoded[key] == wanted[key], row["name"]
        if "event" in row:
            assert decoded["occurred_at"] == time(wanted["occurred_at"])


def test_errors_are_the_catalogue() -> None:
    rows = vector("errors.json")
    for row in rows:
        kind = getattr(errors, row["class"])
        assert kind.code == row["code"]
        assert kind.transient is row["transient"]
        layer = kind.__mro__[1]
        assert layer.__name__ == row["layer"].title() + "Error"
        assert layer.__mro__[1] is errors.OrkestraError
        annotated = inspect.get_annotations(kind)
        assert [*annotated] == [d for d in row["details"] if d != "from"], row
    assert {row["class"] for row in rows} == {
        name
        for name in errors.__all__
        if getattr(errors, name).code != errors.OrkestraError.code
    }
    native = _orkestra.catalogue()
    assert [row["code"] for row in rows] == [code for code, *_ in native]


def resolve(path: str) -> tuple[Any, Any]:
    """The owner and the thing at `path` below the package."""
    owner: Any = None
    thing: Any = orkestra
    for part in path.split("."):
        owner = thing
        if part == "testing":
            thing = orkestra.testing
            continue
        try:
            thing = getattr(owner, part)
        except AttributeError:
            annotated: set[str] = set()
            for kind in inspect.getmro(owner):
                annotated |= set(inspect.get_annotations(kind))
            if part not in annotated:
                raise
            thing = None
    return owner, thing


def test_surface_every_public_name_is_there() -> None:
    for row in vector("surface.json"):
        if row["python"] is None:
            assert row["why"]
            continue
        _, thing = resolve(row["python"])
        options = row.get("options", [])
        if not options:
            continue
        if row["name"] in ("Orkestra.dispatch", "Orkestra.send", "Orkestra.publish"):
            # Native methods: what they take is tried in test_bus.
            continue
        keywords = inspect.signature(thing).parameters
        assert set(options) <= set(keywords), row


def test_surface_nothing_else_is_public() -> None:
    rows = vector("surface.json")
    known = {row["python"] for row in rows if row["python"]}
    for name in orkestra.__all__:
        thing = getattr(orkestra, name)
        public = isinstance(thing, type) or callable(thing)
        if public and name not in errors.__all__:
            assert name in known, name
    for name in orkestra.__all__:
        assert hasattr(orkestra, name)
    assert issubclass(orkestra.Command, BaseModel)
