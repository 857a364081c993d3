"""What the server answers: which ranges its database holds for good (WIRE.md §6)."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from gateway.link.status import Hex64, Message, Ranges

MAX_RECEIPT_SPANS = 512
"""Ranges of one epoch in a receipt: it only adds, so a part of them is a receipt, too."""
MAX_ANSWER_SPANS = 2_000
"""Ranges of one epoch in the answer to a status, which must be whole or carry no nonce."""


class EpochReceipt(BaseModel):
    """What is settled of one epoch."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, extra="ignore")

    epoch: Annotated[Hex64, Field(ge=1)]
    settled: Ranges


class Receipt(Message):
    """Settled ranges; with a nonce, the whole answer to the status that carried it."""

    ledger: Annotated[str, Field(min_length=1, max_length=64)]
    epochs: tuple[EpochReceipt, ...]
    nonce: Hex64 | None = None
