"""The Celery side: an app with one task, tuned as its documentation says for speed."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

from _rabbit import COUNT, URL, WINDOW, fill
from _shop import payload
from celery import Celery
from kombu import Queue

if TYPE_CHECKING:
    from _meter import Meter


def make_app(queue: str, queue_type: str, **settings: object) -> Celery:
    """Returns an app whose tasks go through `queue`.

    Args:
        queue: A queue that is already there.
        queue_type: `quorum` or `classic`.
        settings: Added to Celery's configuration.
    """
    app = Celery("bench", broker=URL)
    arguments = {"x-queue-type": queue_type}
    app.conf.update(
        task_queues=[Queue(queue, routing_key=queue, queue_arguments=arguments)],
        task_default_queue=queue,
        worker_prefetch_multiplier=WINDOW,
        worker_concurrency=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        task_acks_late=True,
        broker_connection_retry_on_startup=True,
    )
    app.conf.update(settings)
    return app


def run_worker(app: Celery) -> None:
    """Runs a worker in this process until it is told to stop."""
    app.Worker(
        pool="solo",
        loglevel="ERROR",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    ).start()


def consume(queue: str, queue_type: str, meter: Meter) -> None:
    """Fills `queue` with tasks and runs a worker until `meter` has its count."""
    from celery.worker import state

    app = make_app(queue, queue_type, task_ignore_result=True)

    @app.task(name="place_order")
    def place_order(**_fields: object) -> None:
        meter.tick()
        if meter.end:
            state.should_stop = 0

    message = app.amqp.as_task_v2(
        str(uuid.uuid4()), "place_order", (), dict(payload(1)), ignore_result=True
    )
    facts = {"headers": message.headers, "content_encoding": "utf-8"}
    facts |= {k: v for k, v in message.properties.items() if v}
    fill(queue, COUNT, json.dumps(message.body).encode(), facts)
    try:
        run_worker(app)
    except SystemExit:
        if not meter.end:
            raise
