"""Recorded events to their handlers, dead letters, and back from the dead."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from orkestra import _orkestra
from orkestra._bus import Bus, logger
from orkestra._failures import invalid_handler, records, text
from orkestra.envelopes import CommandEnvelope
from orkestra.errors import (
    ClosedError,
    OrkestraError,
    RejectedError,
    StoreClosedError,
    SubscriptionStoppedError,
)
from orkestra.messages import RawEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from orkestra._orkestra import DeadLetter, Plan, RecordedEvent, Route


class Deliveries(Bus):
    """What reaches a handler without a sender who waits, and what never does."""

    _plan: Plan
    _listeners: list[Callable[[DeadLetter], Any]]

    async def _deliver_recorded(self, route: Route, recorded: RecordedEvent) -> None:
        """One recorded event to one handler: in place, to the end.

        Raises:
            SubscriptionStoppedError: It cannot be handled, and the handler wants to
                stop at such an event.
        """
        poison = route.info.registration.poison
        delivery = _orkestra.Delivery(
            route.info.registration.policy._native,
            command=False,
            max_retries=None,
        )
        try:
            event = recorded.event
        except OrkestraError as error:
            if poison == "park":
                await self._bury_undecodable(delivery, route, recorded, error)
            else:
                _pass_over(route, recorded, error)
            return
        inbox = route.info.registration.inbox
        if inbox and await self._services_or_refuse().was_handled(
            route.name, recorded.id
        ):
            return
        handling = _orkestra.new_handling(self, event, True)
        if not (self._around_handle or not (route.is_async or route.inline)) and (
            route.info.registration.timeout is None
        ):
            # The short way: no middleware, no thread, no limit.
            error_: Exception | None = None
            delivery.begin()
            await self._take_slot(route)
            handling.enter()
            try:
                if route.wants_metadata:
                    result = route.handler(event, handling.metadata)
                else:
                    result = route.handler(event)
                if inspect.isawaitable(result):
                    await result
            except Exception as raised:
                error_ = raised
            else:
                if inbox:
                    await self._record_handled(route, recorded)
                return
            finally:
                handling.leave()
                route.release()
        else:
            error_ = None
        envelope = _orkestra.EventEnvelope(event, (route,), handling.at)
        try:
            await self._deliver(
                handling,
                route,
                event,
                delivery,
                envelope,
                error=error_,
                bury=poison == "park",
            )
            if inbox:
                await self._record_handled(route, recorded)
        except RejectedError:
            logger.debug("%s skipped the event at %d", route.name, recorded.position)
        except Exception as error:
            if poison == "park":
                logger.debug("%s gave up: %s", route.name, text(error))
            else:
                _pass_over(route, recorded, error)
        finally:
            del error_

    async def _record_handled(self, route: Route, recorded: RecordedEvent) -> None:
        services = self._services_or_refuse()
        try:
            await services.record_handled(route.name, recorded.id)
        except OrkestraError as error:
            # It is handled: to handle it again would be worse than to forget that.
            known = "%s: it is not recorded that the event at %d was handled: %s"
            logger.warning(known, route.name, recorded.position, error)

    async def _bury(
        self,
        delivery: _orkestra.Delivery,
        reason: str,
        route: Route,
        message: Any,
        max_retries: int | None,
        error: BaseException,
    ) -> None:
        payload: bytes | None = None
        if isinstance(message, RawEvent):
            name, version = message.type, message.version
            payload = message.json()
        else:
            info = type(message).__orkestra_type__
            name, version = info.type_name, info.version
            try:
                payload = _orkestra.encode_payload(
                    message, self._plan.max_payload_bytes
                )
            except OrkestraError as broken:
                logger.warning("a dead letter is without its body: %s", broken)
        letter = delivery.dead_letter(
            reason=reason,
            handler=route.name,
            message=message,
            type_name=name,
            version=version,
            topic=self._topic_or_name(name),
            payload=payload,
            max_retries=max_retries,
            clock=self._clock,
            ids=self._ids,
        )
        await self._record(letter)
        logger.error(
            "%s gave up after %d attempts: %s",
            route.name,
            delivery.attempts,
            text(error),
        )

    async def _bury_undecodable(
        self,
        delivery: _orkestra.Delivery,
        route: Route,
        recorded: RecordedEvent,
        error: OrkestraError,
    ) -> None:
        raw = RawEvent(recorded.type, recorded.version, {})
        _orkestra.put_recorded_stamp(recorded, raw)
        delivery.begin()
        delivery.failed(["builtins.Exception"], records(error), self._clock, self._ids)
        letter = delivery.dead_letter(
            reason="undecodable",
            handler=route.name,
            message=raw,
            type_name=recorded.type,
            version=recorded.version,
            topic=self._topic_or_name(recorded.type),
            payload=recorded.data,
            max_retries=None,
            clock=self._clock,
            ids=self._ids,
        )
        await self._record(letter)
        logger.error("%s: an event does not decode: %s", route.name, error)

    def _topic_or_name(self, type_name: str) -> str:
        try:
            return self._registry.topic_for(type_name)
        except OrkestraError:
            return type_name

    async def _record(self, letter: DeadLetter) -> None:
        try:
            letter = await self._services_or_refuse().record_dead_letter(letter)
        except (ClosedError, StoreClosedError):
            logger.exception("a dead letter is lost: %r", letter)
            return
        await self._tell(letter)

    async def _tell(self, letter: DeadLetter) -> None:
        """Tells those who want to know of dead letters."""
        for listener in self._listeners:
            try:
                result = listener(letter)
                if inspect.isawaitable(result):
                    await result
            except Exception:
                logger.exception("a listener for dead letters failed")

    def _revive(
        self, letter: DeadLetter, body: bytes | None
    ) -> tuple[Any, Route, int | None]:
        """The message of a dead letter and its handler, both checked."""
        route = next(
            (r for r in self._routes.values() if r.name == letter.handler), None
        )
        if route is None:
            raise invalid_handler(letter.handler, "it is not in this app")
        decoded = _orkestra.decode_envelope(letter.body if body is None else body, None)
        version = decoded.get("version")
        message = self._registry.decode(decoded["type"], version, decoded["payload"])
        at = decoded.get("occurred_at") or decoded["metadata"].issued_at
        if message is None:
            message = RawEvent.from_json(
                decoded["type"], version or 1, decoded["payload"]
            )
        _orkestra.put_stamp(message, decoded["id"], at, decoded["metadata"])
        return message, route, decoded.get("max_retries")

    async def _redeliver(
        self, message: Any, route: Route, max_retries: int | None
    ) -> bool:
        is_event = not route.info.is_command
        handling = _orkestra.new_handling(self, message, is_event)
        policy = route.info.registration.policy._native
        delivery = _orkestra.Delivery(
            policy, command=not is_event, max_retries=max_retries
        )
        envelope: Any
        if is_event:
            envelope = _orkestra.EventEnvelope(message, (route,), handling.at)
        else:
            envelope = CommandEnvelope(message, max_retries)
        try:
            await self._deliver(
                handling, route, message, delivery, envelope, max_retries
            )
        except RejectedError:
            # A refusal ends a message: it is not dead any more.
            return True
        except Exception as error:
            logger.debug("a requeued message failed again: %s", text(error))
            return False
        return True


def _pass_over(route: Route, recorded: RecordedEvent, error: Exception) -> None:
    """Skips an event that cannot be handled, or stops at it."""
    name, position, reason = route.name, recorded.position, text(error)
    if route.info.registration.poison == "skip":
        logger.warning("%s: the event at %d is skipped: %s", name, position, reason)
        return
    message = f"subscription {name} stopped at position {position}: {reason}"
    details = {"name": name, "position": position, "reason": reason}
    raise SubscriptionStoppedError(message, details) from error
