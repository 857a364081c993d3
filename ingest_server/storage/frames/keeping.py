"""The table of kept frames: written with the batch that brought them, read, erased from, and pruned."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from ingest_server.storage.connection import Connection, sql, transaction, translated
from ingest_server.storage.frames.blocks import pack, unpack


@dataclass(frozen=True, slots=True)
class FrameBlock:
    """Frames of a device in one batch. series_id: of the readings that carried them. frames: (Unix µs, bytes)."""

    series_id: int
    profile: str
    firmware: str
    frames: tuple[tuple[int, bytes], ...]


async def keep(connection: Connection, blocks: Sequence[FrameBlock]) -> None:
    """Within the transaction that writes their readings."""
    await connection.execute(
        sql("frames/keep_frames"),
        {
            "series_ids": [b.series_id for b in blocks],
            "profiles": [b.profile for b in blocks],
            "firmwares": [b.firmware for b in blocks],
            "first_us": [min(at_us for at_us, _ in b.frames) for b in blocks],
            "last_us": [max(at_us for at_us, _ in b.frames) for b in blocks],
            "counts": [len(b.frames) for b in blocks],
            "contents": [pack(b.frames) for b in blocks],
        },
    )


async def read(connection: Connection, device_id: int, from_at: object, to_at: object) -> list[tuple[str, int, bytes]]:
    """Frames of a device in [from_at, to_at), each with the profile that gave it its meaning, and its time."""
    with translated():
        cursor = await connection.execute(
            sql("frames/read_frames"), {"device_id": device_id, "from_at": from_at, "to_at": to_at}, binary=True
        )
        blocks = await cursor.fetchall()
    return [(profile, at_us, frame) for profile, content in blocks for at_us, frame in unpack(content)]


async def read_at(connection: Connection, device_id: int, times_us: Sequence[int]) -> list[tuple[str, int, bytes]]:
    """The same, of blocks that hold any of these times."""
    with translated():
        cursor = await connection.execute(
            sql("frames/read_frames_at"), {"device_id": device_id, "times_us": list(times_us)}, binary=True
        )
        blocks = await cursor.fetchall()
    return [(profile, at_us, frame) for profile, content in blocks for at_us, frame in unpack(content)]


async def count(connection: Connection, device_id: int, profile: str, from_at: object, to_at: object) -> int:
    """How many frames that this profile decoded are kept of a time, or of batches that touch it."""
    with translated():
        cursor = await connection.execute(
            "SELECT COALESCE(sum(frames), 0)::bigint FROM iot_service.raw_frames WHERE device_id = %s AND profile = %s"
            " AND last_at >= %s AND first_at < %s::timestamptz",
            (device_id, profile, from_at, to_at),
        )
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def erase(connection: Connection, erasure_id: UUID) -> None:
    """Leaves of the kept frames what an erasure does not name."""
    async with transaction(connection):
        cursor = await connection.execute(
            sql("frames/frames_of_erasure"), {"erasure_id": erasure_id}, binary=True, prepare=False
        )
        for block_id, content, from_us, to_us in await cursor.fetchall():
            spans = list(zip(from_us, to_us, strict=True))
            left = [f for f in unpack(content) if not any(since <= f[0] < until for since, until in spans)]
            await connection.execute(
                sql("frames/leave_frames"),
                {
                    "block_id": block_id,
                    "left": len(left),
                    "first_us": min((at_us for at_us, _ in left), default=0),
                    "last_us": max((at_us for at_us, _ in left), default=0),
                    "content": pack(left),
                },
            )


async def prune(connection: Connection, days: int) -> int:
    """Removes what arrived longer ago, but what a rule that stands reads; how many frames."""
    with translated():
        cursor = await connection.execute(sql("frames/prune_frames"), {"days": days})
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0])
