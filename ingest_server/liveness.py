"""Hears what gateways say of themselves, answers with what is settled, notices who fell silent."""

import asyncio
import logging
from collections.abc import Callable

from gateway.link.backoff import FullJitter
from gateway.link.errors import ControlError
from gateway.link.status import Status, parse
from ingest_server.counters import Counters
from ingest_server.errors import BatchRejected, StorageUnavailable
from ingest_server.receipts import Receipts
from ingest_server.source import ArrivedStatus, MqttSource
from ingest_server.storage.line import liveness as books
from ingest_server.storage.line.writer import Writer, WriterOptions

log = logging.getLogger(__name__)

_RETRY_FIRST_S, _RETRY_LONGEST_S = 0.5, 10.0


class Liveness:
    """Has a connection of its own: a slow COPY must not make gateways look dead."""

    def __init__(
        self,
        source: MqttSource,
        writer: WriterOptions,
        receipts: Receipts,
        counters: Counters,
        *,
        lost_after_s: float,
        device_silence_s: float,
        clock_s: Callable[[], float],
    ) -> None:
        self._source = source
        self._options = writer
        self._receipts = receipts
        self._counters = counters
        self._lost_after_s = lost_after_s
        self._device_silence_s = device_silence_s
        self._clock_s = clock_s
        self._writer: Writer | None = None

    async def run(self) -> None:
        """Until cancelled. A status that cannot be entered is dropped: it repeats."""
        backoff = FullJitter(_RETRY_FIRST_S, _RETRY_LONGEST_S)
        try:
            while True:
                statuses = await self._source.statuses()
                try:
                    if self._writer is None:
                        self._writer = await Writer.open(self._options)
                    while statuses:
                        gateway = next(iter(statuses))
                        await self._hear(self._writer, gateway, statuses[gateway])
                        del statuses[gateway]
                    backoff.reset()
                except StorageUnavailable as error:
                    self._counters.statuses_lost += len(statuses)
                    log.warning("database: %s; %d statuses wait for their repetition", error, len(statuses))
                    await self._close()
                    await asyncio.sleep(backoff.next_s())
        finally:
            await self._close()

    async def _hear(self, writer: Writer, gateway: str, arrived: ArrivedStatus) -> None:
        try:
            status = parse(Status, arrived.payload)
            if status.state == "offline":
                await books.gateway_left(writer.connection, gateway, status.instance)
                self._counters.statuses += 1
                return
            await writer.catalogue.confirm(self._receipts.ledger_id)
            heard = await books.hear(
                writer.connection,
                await writer.catalogue.gateway_id(gateway),
                status,
                lost_after_s=self._lost_after_s,
                device_silence_s=self._device_silence_s,
                age_s=self._clock_s() - arrived.arrived_s,
                new_epochs_per_hour=self._options.new_epochs_per_hour,
            )
        except (ControlError, BatchRejected) as error:
            self._counters.bad_control += 1
            log.warning("status of %s: %s", gateway, error)
            return
        self._counters.statuses += 1
        for instance in heard.newly_held:
            log.error(
                "two boxes speak as %s: what instance %016x sends is held in quarantine until"
                " `heal7-iot gateways resolve %s`",
                gateway,
                instance,
                gateway,
            )
        for epoch, readings in heard.presumed_lost.items():
            log.error("%s: %d readings of epoch %016x are presumed lost", gateway, readings, epoch)
        if not heard.stale:
            self._receipts.answer(gateway, heard.settled, status.nonce)

    async def _close(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            await writer.close()
