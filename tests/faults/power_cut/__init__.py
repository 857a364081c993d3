"""Power cuts under the spool: every write and sync is recorded, and each moment's possible files are opened again."""
