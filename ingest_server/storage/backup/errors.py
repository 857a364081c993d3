"""What can go wrong with a backup, beside what the database says."""

from ingest_server.errors import StorageError


class BackupError(StorageError):
    """Any fault of a backup; the message names the folder or the file."""


class NotABackup(BackupError):
    """What was named is no backup that this version reads: name another."""


class DamagedBackup(BackupError):
    """Its files are not those that were written: take another backup."""


class NotWritten(BackupError):
    """The disk took no more; what had been begun is gone."""


class TargetRefused(BackupError):
    """The database is not one to restore into; nothing of it was touched."""
