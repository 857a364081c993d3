"""What can go wrong at the database; the class tells the caller what to do."""


class StorageError(Exception):
    """Any fault of the database."""


class StorageUnavailable(StorageError):
    """It cannot be reached, or it went away, perhaps in the middle of COMMIT: try again, acknowledge nothing."""


class BatchRejected(StorageError):
    """It refuses the content itself, and would refuse it again: quarantine."""


class OtherLedger(StorageError):
    """Another database stands where this process began with one: end, so that the next start says which it is."""


class SchemaError(StorageError):
    """The schema is not the one that this version needs; the message says what to run."""
