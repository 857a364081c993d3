"""Telling gateways what the database holds for good. Sent after COMMIT, never before."""

from collections.abc import Callable, Mapping

from gateway.link.ranges import RangeSet
from gateway.link.receipts import MAX_ANSWER_SPANS, MAX_RECEIPT_SPANS, EpochReceipt, Receipt
from gateway.link.status import MAX_CONTROL
from gateway.link.topics import Topics
from ingest_server.counters import Counters


class Receipts:
    """Writes receipts of one database."""

    def __init__(
        self, publish: Callable[[str, bytes], bool], topics: Topics, ledger_id: str, counters: Counters
    ) -> None:
        """publish: says whether there was anybody to send to."""
        self._publish = publish
        self._topics = topics
        self._ledger_id = ledger_id
        self._counters = counters

    @property
    def ledger_id(self) -> str:
        """The database whose settlements these receipts name."""
        return self._ledger_id

    def send(self, written: Mapping[tuple[str, int], RangeSet], settled: Mapping[tuple[str, int], RangeSet]) -> None:
        """For each (gateway, epoch) of a group: all that is settled, or where that is long, what was just written."""
        by_gateway: dict[str, list[EpochReceipt]] = {}
        for (gateway, epoch), ranges in settled.items():
            if ranges.spans() > MAX_RECEIPT_SPANS:
                ranges = (ranges & written.get((gateway, epoch), RangeSet())).first_spans(MAX_RECEIPT_SPANS)
            by_gateway.setdefault(gateway, []).append(EpochReceipt(epoch=epoch, settled=ranges))
        for gateway, epochs in by_gateway.items():
            self._send(gateway, Receipt(ledger=self._ledger_id, epochs=tuple(epochs)))

    def answer(self, gateway: str, settled: Mapping[int, RangeSet], nonce: int) -> None:
        """The answer to a status: every settled range of every epoch that it listed."""
        whole = all(ranges.spans() <= MAX_ANSWER_SPANS for ranges in settled.values())
        epochs = tuple(
            EpochReceipt(epoch=epoch, settled=ranges.first_spans(MAX_ANSWER_SPANS)) for epoch, ranges in settled.items()
        )
        # Without a nonce a receipt only adds: a list that had to be cut may not take anything back.
        self._send(gateway, Receipt(ledger=self._ledger_id, epochs=epochs, nonce=nonce if whole else None))

    def _send(self, gateway: str, receipt: Receipt) -> None:
        payload = receipt.payload()
        if len(payload) <= MAX_CONTROL:
            self._counters.receipts_unsent += not self._publish(self._topics.receipt(gateway), payload)
            return
        # The gateway would not read it: each epoch on its own, and so without a nonce.
        for epoch in receipt.epochs:
            part = Receipt(ledger=receipt.ledger, epochs=(epoch,))
            self._counters.receipts_unsent += not self._publish(self._topics.receipt(gateway), part.payload())
