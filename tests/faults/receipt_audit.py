"""Every receipt that passes the broker is held against the database at once: what it names must be there by then.

A receipt that lies does little harm by itself, since the next comparison of books takes it back. So it must be caught
in the act.
"""

import queue
import threading
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
import psycopg
from paho.mqtt.enums import CallbackAPIVersion

from gateway.link.ranges import RangeSet
from gateway.link.receipts import Receipt
from gateway.link.status import parse
from gateway.link.topics import Topics
from ingest_server.storage.multirange import from_multirange

_TOPICS = Topics()
_SETTLED = (
    b"SELECT g.name, l.epoch, l.settled FROM iot_service.ledger l JOIN iot_service.gateways g USING (gateway_id)"
    b" WHERE l.epoch = ANY(%s)"
)


class ReceiptAudit:
    """Runs until closed. What is told while the database is away goes unchecked. complain: may be called from here."""

    def __init__(self, port: int, dsn: str, complain: Callable[[str], None]) -> None:
        self._dsn = dsn
        self._complain = complain
        self._heard: queue.SimpleQueue[tuple[str, bytes] | None] = queue.SimpleQueue()
        self._told: set[str] = set()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="receipt-audit")
        client.reconnect_delay_set(1, 1)
        client.on_connect = self._listen
        client.on_message = self._hear
        client.connect_async("127.0.0.1", port)
        client.loop_start()
        self._client = client
        self._thread = threading.Thread(target=self._run, name="receipt audit", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """After the database: one that is frozen never answers."""
        self._client.disconnect()
        self._client.loop_stop()
        self._heard.put(None)
        self._thread.join()

    def _listen(self, client: mqtt.Client, *_: Any) -> None:
        client.subscribe(_TOPICS.receipt("+/+"), 0)

    def _hear(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        self._heard.put((message.topic, bytes(message.payload)))

    def _run(self) -> None:
        try:
            self._audit()
        except Exception as error:  # noqa: BLE001  # else all that is told from then on would go unchecked in silence
            self._complain(f"the audit of receipts ended: {error!r}")

    def _audit(self) -> None:
        connection: psycopg.Connection[Any] | None = None
        while (told := self._next()) is not None:
            try:
                if connection is None or connection.closed:
                    connection = psycopg.connect(self._dsn, autocommit=True, connect_timeout=5)
                self._check(connection, told)
            except psycopg.OperationalError:
                continue
        if connection is not None:
            connection.close()

    def _next(self) -> dict[tuple[str, int], RangeSet] | None:
        """What the receipts that wait have told, by (gateway, epoch); waits for the first. None at the end."""
        told: dict[tuple[str, int], RangeSet] = {}
        while not told or not self._heard.empty():
            heard = self._heard.get()
            if heard is None:
                return None
            gateway = _TOPICS.gateway_of(heard[0])
            assert gateway is not None
            for entry in parse(Receipt, heard[1]).epochs:
                key = gateway, entry.epoch
                told[key] = told.get(key, RangeSet()) | entry.settled
        return told

    def _check(self, connection: psycopg.Connection[Any], told: dict[tuple[str, int], RangeSet]) -> None:
        rows = connection.execute(_SETTLED, (sorted({epoch for _, epoch in told}),)).fetchall()
        settled = {(name, epoch): from_multirange(ranges) for name, epoch, ranges in rows}
        for (gateway, epoch), ranges in told.items():
            lie = ranges - settled.get((gateway, epoch), RangeSet())
            # The first of a gateway says enough.
            if lie and gateway not in self._told:
                self._told.add(gateway)
                self._complain(f"a receipt told {gateway} of {list(lie)} in {epoch}, which the database did not have")
