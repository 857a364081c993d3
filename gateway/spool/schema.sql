-- Tables are ordered by how often they are written. No index but the primary keys: each would be
-- written again with every batch, and an SD card wears by the byte.

-- A sealed batch. id = epoch_no << 40 | seq: one b-tree, in the order of sending.
-- Its columns never change once it is in; the body comes last so that a scan does not read it.
CREATE TABLE batches (
    id             INTEGER PRIMARY KEY,
    epoch          INTEGER NOT NULL, -- repeated here so that a batch keeps its identity where `epochs` cannot be read
    boot_no        INTEGER NOT NULL,
    kind           INTEGER NOT NULL,
    readings       INTEGER NOT NULL,
    before         INTEGER NOT NULL, -- readings in this epoch's batches with a lower seq
    first_us       INTEGER NOT NULL, -- of the boot's monotonic clock
    last_us        INTEGER NOT NULL,
    offset_us      INTEGER,          -- clock anchor; NULL: that of the boot
    uncertainty_us INTEGER,
    source         INTEGER,
    encoding       INTEGER NOT NULL,
    length         INTEGER NOT NULL,
    crc            INTEGER NOT NULL, -- CRC-32 of the body
    seal           INTEGER NOT NULL, -- CRC-32 of the columns above
    body           BLOB NOT NULL
) STRICT;

-- What was settled within one hour of one epoch: id = epoch_no << 24 | hour since 1970 (0: clock unknown).
-- The replay window counts from here, not from sealing.
CREATE TABLE settlements (
    id       INTEGER PRIMARY KEY,
    batches  INTEGER NOT NULL, -- that left the spool's books by it
    readings INTEGER NOT NULL,
    ranges   BLOB NOT NULL
) STRICT;

-- What is missing: a dropped batch, or (batch NULL) readings that were never sealed.
CREATE TABLE losses (
    loss_no   INTEGER PRIMARY KEY,
    reason    TEXT NOT NULL,
    batch     INTEGER,
    readings  INTEGER, -- NULL: unknown
    from_boot INTEGER NOT NULL,
    from_us   INTEGER NOT NULL,
    to_boot   INTEGER NOT NULL,
    to_us     INTEGER NOT NULL,
    seal      INTEGER NOT NULL DEFAULT 0 -- CRC-32 of the columns above, here and below: `seals.py`
) STRICT;

-- Which losses [first_loss, end_loss) a gap batch (id as in `batches`) names.
CREATE TABLE gaps (
    id         INTEGER PRIMARY KEY,
    first_loss INTEGER NOT NULL,
    end_loss   INTEGER NOT NULL,
    seal       INTEGER NOT NULL DEFAULT 0
) STRICT;

-- next_seq, sealed, last_us: as of the last time that the epoch's newest batch was removed; while that batch is in
-- the file it says so itself, which saves a page with every append.
CREATE TABLE epochs (
    epoch_no         INTEGER PRIMARY KEY,
    epoch            INTEGER NOT NULL,
    boot_no          INTEGER NOT NULL,
    opened_us        INTEGER NOT NULL,
    clean            INTEGER NOT NULL DEFAULT 0,
    next_seq         INTEGER NOT NULL DEFAULT 0,
    sealed           INTEGER NOT NULL DEFAULT 0,
    last_us          INTEGER,
    settled_batches  INTEGER NOT NULL DEFAULT 0, -- of hours past the replay window
    settled_readings INTEGER NOT NULL DEFAULT 0,
    freed            BLOB NOT NULL DEFAULT x'',  -- settled for good: no longer in the file
    quiet_hour       INTEGER,                    -- since when nothing of it is left
    held_back_us     INTEGER NOT NULL DEFAULT 0, -- a reading may be so much older than the last sealed one, and unsealed
    seal             INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE boots (
    boot_no        INTEGER PRIMARY KEY,
    boot_id        TEXT NOT NULL,
    started_us     INTEGER NOT NULL, -- monotonic time of the first opening
    ended_us       INTEGER,          -- last monotonic time seen, once a later boot has begun
    offset_us      INTEGER,          -- the boot's first anchor, or what was estimated afterwards
    uncertainty_us INTEGER,
    source         INTEGER,
    seal           INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Totals of what is no longer in the file.
CREATE TABLE totals (
    name   TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE pinned (ledger TEXT NOT NULL) STRICT;
