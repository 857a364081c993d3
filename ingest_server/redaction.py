"""What may be kept of a batch of which an erasure names some readings: the others, without a trace of these."""

from dataclasses import replace

import numpy as np

from gateway.link import wire
from gateway.link.wire import Batch
from ingest_server.decoder import Bools, Columns


def redacted(batch: Batch, columns: Columns, kept: Bools) -> bytes:
    """A payload of the same identity that holds the readings chosen, at least one, and no others.

    columns: the batch's, n readings; kept: n bools. What was capped by the clock's uncertainty stays so. Columns that
    this version does not know are left out: what they say of the others is not known either.
    """
    place = np.cumsum(kept) - 1
    content: dict[str, object] = {
        "series": columns.table,
        "t": np.diff(columns.times_us[kept] - batch.envelope.anchor.offset_us, prepend=0).astype("<i8").tobytes(),
        "s": columns.series[kept].astype("<u2").tobytes(),
        "v": columns.values[kept].astype("<f8").tobytes(),
        "q": columns.reliability[kept].astype("u1").tobytes(),
        "c": columns.causes[kept].astype("<u4").tobytes(),
    }
    frames = {int(place[n]): frame for n, frame in columns.frames.items() if kept[n]}
    if frames:
        content["frames"] = frames
    envelope = replace(batch.envelope, readings=int(np.count_nonzero(kept)))
    return wire.encode(Batch(envelope, wire.pack(content)))
