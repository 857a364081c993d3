"""What can go wrong in the spool; the class tells the caller what to do."""


class SpoolError(Exception):
    """The spool could not do what it was asked."""


class ForeignLedger(SpoolError):
    """A receipt of a database other than the pinned one: ignore it and tell the operator."""

    def __init__(self, ledger: str, pinned: str) -> None:
        super().__init__(f"receipt of ledger {ledger}, but this gateway trusts {pinned}: see `heal7-iot gateway trust`")
        self.ledger = ledger
        self.pinned = pinned


class SpoolBusy(SpoolError):
    """Another process has the file: only one may own a spool. Stop the other."""


class SpoolCorrupt(SpoolError):
    """The file turned out damaged while it was open: end the process; the next opening salvages it."""


class SpoolUnavailable(SpoolError):
    """The disk does not answer, or has no byte left even for the books: try again later."""
