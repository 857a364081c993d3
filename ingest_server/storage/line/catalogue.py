"""Gateways, devices and series: names to small integers, registered on first sight.

New ones commit in a short transaction of their own before the COPY that uses them, and only then enter the cache: a
number from a transaction that rolled back would be given to something else. For the same reason a catalogue lives no
longer than the database connection that filled it: a restored database hands the same numbers out again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from device_drivers.reading import Series
from gateway.link.errors import UnusableBatch
from gateway.link.wire import decode_series
from ingest_server.decoder import Int32s
from ingest_server.errors import BatchRejected, OtherLedger, StorageUnavailable
from ingest_server.storage.connection import Connection, sql, transaction, translated
from ingest_server.storage.frames.reading import Decode, undecoded
from ingest_server.storage.line.corrected import TableRules
from ingest_server.storage.line.erased import Interval
from ingest_server.storage.line.ledger import LedgerMark, ledger_mark
from ingest_server.storage.line.rules import Rules

REFUSED = -1
"""Stands in a table of ids for a series whose readings go to quarantine."""

_MAX_TABLES_BYTES = 67_108_864
# Packed series tables that are recognised without unpacking: beyond this, the cache starts anew. By bytes, not by
# number: what is heard by radio stands in another order in each batch, and a table may have 4,096 rows.
_MAX_REFUSED = 100_000
# Refusals that are remembered: a gateway that invents names must not fill the memory.
_KNOWN_S = 30.0
# What is known of homes is asked again after this: another worker may have handed a device over.
_REFUSAL_S = 30.0
# A refusal is asked again after this: an operator may have resolved it, a home may have fallen silent.
_ATTEMPTS = 3
# Another worker may register the same series in the same moment, unseen by our snapshot.
_MAX_REJECTED = 64
# Attempts that the database may reject while the names at fault are searched: a gateway that brings thousands of names
# which a constraint of the platform's forbids would keep the line busy with it.


@dataclass(frozen=True, slots=True)
class CatalogueLimits:
    """What a gateway may bring, so that one that invents names cannot fill the database."""

    new_devices_per_hour: int = 500
    new_series_per_hour: int = 10_000
    handover_silence_s: float = 900.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the readings of a series are quarantined."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Table:
    """A batch's series table: the id of each series, REFUSED where there is a refusal.

    erased: when nothing of a series may be written, where an erasure says so. corrected: what its values mean instead,
    where a correction says so.
    """

    ids: Int32s
    refusals: dict[int, Refusal]
    erased: dict[int, tuple[Interval, ...]] = field(default_factory=dict)
    corrected: TableRules | None = None


Describe = Callable[[str], tuple[str | None, str | None]]
"""From a profile's name to (manufacturer, model)."""


class Catalogue:
    """What one connection knows of the names in the database."""

    def __init__(
        self, connection: Connection, limits: CatalogueLimits, describe: Describe, decode: Decode = undecoded
    ) -> None:
        self._connection = connection
        self._limits = limits
        self._describe = describe
        self._gateways: dict[str, int] = {}
        self._series: dict[tuple[int, Series], int] = {}
        self._refused: dict[tuple[int, Series], tuple[Refusal, float]] = {}
        self._tables: dict[tuple[int, bytes], Table] = {}
        self._tables_bytes = 0
        self._known_until_s = float("-inf")
        self._mark: LedgerMark | None = None
        self._probe: tuple[int, str] | None = None
        self.rules = Rules(decode)
        """As of the last look for tables."""

    async def confirm(self, ledger_id: str) -> None:
        """Asks whether this is still the database that `ledger_id` names and whose numbers are known here.

        A restore need not break the connection. Raises OtherLedger, and StorageUnavailable where the tables are not
        those any more that filled this catalogue: go on with a new connection.
        """
        probe = self._probe
        mark = await ledger_mark(self._connection, None if probe is None else probe[0])
        if mark.ledger_id != ledger_id:
            raise OtherLedger(
                f"ledger {mark.ledger_id} stands where {ledger_id} was: another database, whose receipts would lie"
            )
        here = mark.without_series()
        if self._mark not in (None, here) or (probe is not None and probe[1] != mark.series):
            raise StorageUnavailable("its tables were restored or emptied under this connection")
        self._mark = here

    async def gateway_id(self, name: str) -> int:
        """The number of `<site>/<gateway>`, made on first sight."""
        if name not in self._gateways:
            async with transaction(self._connection):
                cursor = await self._connection.execute(sql("line/upsert_gateway"), {"name": name})
                row = await cursor.fetchone()
                if row is None:  # made by another worker between our two looks
                    cursor = await self._connection.execute(sql("line/upsert_gateway"), {"name": name})
                    row = await cursor.fetchone()
            assert row is not None
            self._gateways[name] = row[0]
        return self._gateways[name]

    def forget_devices(self) -> None:
        """Homes may have changed elsewhere: ask the database again."""
        self._series.clear()
        self._tables.clear()
        self._tables_bytes = 0

    async def tables(
        self, wanted: Sequence[tuple[str, bytes]], now_s: float
    ) -> dict[tuple[str, bytes], Table | UnusableBatch]:
        """For each (gateway, packed series table): its ids, registered where new; or why it cannot be used."""
        if await self.rules.follow(self._connection) or now_s >= self._known_until_s:
            self.forget_devices()
            self._known_until_s = now_s + _KNOWN_S
        found: dict[tuple[str, bytes], Table | UnusableBatch] = {}
        unpacked: dict[tuple[str, bytes], list[Series]] = {}
        for gateway, packed in dict.fromkeys(wanted):
            known = self._tables.get((await self.gateway_id(gateway), packed))
            if known is not None:
                found[gateway, packed] = known
                continue
            try:
                unpacked[gateway, packed] = decode_series(packed)
            except UnusableBatch as error:
                found[gateway, packed] = error
        if unpacked:
            await self._resolve(unpacked, now_s)
            for (gateway, packed), series in unpacked.items():
                found[gateway, packed] = table = await self._table(gateway, series)
                if not table.refusals:
                    self._remember(self._gateways[gateway], packed, table)
        return found

    async def table(self, gateway: str, series: list[Series], now_s: float) -> Table:
        """The ids of series of one gateway, registered where new."""
        await self.gateway_id(gateway)
        await self.rules.follow(self._connection)
        await self._resolve({(gateway, b""): series}, now_s)
        return await self._table(gateway, series)

    async def _table(self, gateway: str, series: list[Series]) -> Table:
        number = self._gateways[gateway]
        # Of these alone: a gateway may name others' devices, with profiles of its invention.
        own = [s for s in series if (number, s) in self._series]
        await self.rules.corrected.learn_revisions(self._connection, _site(gateway), own)
        ids = np.array([self._series.get((number, s), REFUSED) for s in series], dtype=np.int32)
        return Table(
            ids,
            {n: self._refused[number, s][0] for n, s in enumerate(series) if ids[n] == REFUSED},
            self.rules.erased.of_table(gateway, series),
            self.rules.corrected.of_table(gateway, series),
        )

    def _remember(self, number: int, packed: bytes, table: Table) -> None:
        size = len(packed) + table.ids.nbytes
        if self._tables_bytes + size > _MAX_TABLES_BYTES:
            self._tables.clear()
            self._tables_bytes = 0
        self._tables[number, packed] = table
        self._tables_bytes += size

    async def _resolve(self, unpacked: dict[tuple[str, bytes], list[Series]], now_s: float) -> None:
        known = self._refused if len(self._refused) <= _MAX_REFUSED else {}
        self._refused = {k: (r, until) for k, (r, until) in known.items() if until > now_s}
        wanted: dict[tuple[int, Series], str] = {}
        for (gateway, _), series in unpacked.items():
            number = self._gateways[gateway]
            for s in series:
                if (number, s) not in self._series and (number, s) not in self._refused:
                    wanted[number, s] = gateway
        # By device: all makers lock devices in this order.
        wanted = dict(sorted(wanted.items(), key=lambda item: (item[1], item[0][1].device)))
        await self._isolate(wanted, now_s)

    async def _isolate(self, wanted: dict[tuple[int, Series], str], now_s: float) -> None:
        """Looks up or registers each; what the database rejects is searched by halves, and refused.

        The wire allows names that a constraint of the platform's forbids: tried together for ever, one of them would
        hold up the line of the whole fleet.
        """
        parts, rejected = [wanted], 0
        while parts:
            part = parts.pop()
            try:
                await self._look_up_or_register(part, now_s)
            except BatchRejected as error:
                rejected += 1
                items = list(part.items())
                if len(items) > 1 and rejected < _MAX_REJECTED:
                    half = len(items) // 2
                    parts += [dict(items[half:]), dict(items[:half])]
                    continue
                for key in self._still_open(part):
                    self._refuse(key, "refused_by_database", str(error), now_s)

    async def _look_up_or_register(self, wanted: dict[tuple[int, Series], str], now_s: float) -> None:
        for _ in range(_ATTEMPTS):
            if not wanted:
                return
            await self._find(wanted)
            wanted = self._still_open(wanted)
            if wanted:
                await self._register(wanted, now_s)
                wanted = self._still_open(wanted)
        for key in wanted:
            self._refuse(
                key, "not_registered", "other workers kept changing the same devices; it is tried again", now_s
            )

    def _still_open(self, wanted: dict[tuple[int, Series], str]) -> dict[tuple[int, Series], str]:
        return {k: g for k, g in wanted.items() if k not in self._series and k not in self._refused}

    def _refuse(self, key: tuple[int, Series], reason: str, detail: str, now_s: float) -> None:
        self._refused[key] = Refusal(reason, detail), now_s + _REFUSAL_S

    async def _find(self, wanted: dict[tuple[int, Series], str]) -> None:
        keys = [k for k in wanted if k[1].profile]
        if not keys:
            return
        with translated():
            cursor = await self._connection.execute(
                sql("line/find_series"),
                {
                    "sites": [_site(wanted[k]) for k in keys],
                    "devices": [s.device for _, s in keys],
                    "channels": [s.channel for _, s in keys],
                    "quantities": [s.quantity for _, s in keys],
                    "units": [s.unit for _, s in keys],
                    "profiles": [s.profile for _, s in keys],
                    "firmwares": [s.firmware for _, s in keys],
                },
                # A plan that was made while the tables were small would read all of them for each series.
                prepare=False,
            )
            for n, series_id, home, written in await cursor.fetchall():
                if home == keys[n][0]:
                    self._series[keys[n]] = series_id
                    self._probe = series_id, written

    async def _register(self, wanted: dict[tuple[int, Series], str], now_s: float) -> None:
        """Makes devices and series; what may not be made is refused. Fills no cache: `_find` does, after COMMIT."""
        async with transaction(self._connection):
            devices = sorted({(_site(gateway), series.device) for (_, series), gateway in wanted.items()})
            await self._connection.execute(
                sql("line/lock_devices"), {"sites": [d[0] for d in devices], "devices": [d[1] for d in devices]}
            )
            budget = await self._budget({number for number, _ in wanted})
            homes = await self._homes(wanted)
            new: dict[tuple[str, str], tuple[int, Series]] = {}
            for (number, series), gateway in wanted.items():
                device = (_site(gateway), series.device)
                if device not in homes and device not in new:
                    if budget[number][0] <= 0:
                        continue
                    budget[number][0] -= 1
                    new[device] = (number, series)
            await self._claim(new)
            homes = await self._homes(wanted)
            rows: list[tuple[int, Series]] = []
            for key, gateway in wanted.items():
                number, series = key
                home = homes.get((_site(gateway), series.device))
                if home is None:
                    limit = self._limits.new_devices_per_hour
                    self._refuse(key, "too_many_devices", f"{gateway} brought {limit} new devices this hour", now_s)
                elif not await self._at_home(number, home):
                    detail = f"{series.device} belongs to {home.gateway}, which speaks; see `heal7-iot devices list`"
                    self._refuse(key, "device_elsewhere", detail, now_s)
                elif not series.profile:
                    detail = f"{series.device} runs firmware {series.firmware or '(unknown)'}, which no profile knows"
                    self._refuse(key, "unknown_firmware", detail, now_s)
                elif budget[number][1] <= 0:
                    limit = self._limits.new_series_per_hour
                    self._refuse(key, "too_many_series", f"{gateway} brought {limit} new series this hour", now_s)
                else:
                    budget[number][1] -= 1
                    rows.append((home.device_id, series))
            await self._make_series(rows)
        await self._find({k: g for k, g in wanted.items() if k not in self._refused})

    async def _budget(self, gateways: set[int]) -> dict[int, list[int]]:
        cursor = await self._connection.execute(sql("line/recent_registrations"), {"gateways": list(gateways)})
        used = {gateway: (devices, series) for gateway, devices, series in await cursor.fetchall()}
        limits = self._limits
        return {
            g: [
                limits.new_devices_per_hour - used.get(g, (0, 0))[0],
                limits.new_series_per_hour - used.get(g, (0, 0))[1],
            ]
            for g in gateways
        }

    async def _homes(self, wanted: dict[tuple[int, Series], str]) -> dict[tuple[str, str], "_Home"]:
        devices = sorted({(_site(gateway), series.device) for (_, series), gateway in wanted.items()})
        cursor = await self._connection.execute(
            sql("line/read_homes"), {"sites": [d[0] for d in devices], "devices": [d[1] for d in devices]}
        )
        return {(site, device): _Home(*rest) for site, device, *rest in await cursor.fetchall()}

    async def _claim(self, new: dict[tuple[str, str], tuple[int, Series]]) -> None:
        if not new:
            return
        devices = sorted(new)
        described = [self._describe(new[d][1].profile) for d in devices]
        await self._connection.execute(
            sql("line/claim_devices"),
            {
                "sites": [d[0] for d in devices],
                "devices": [d[1] for d in devices],
                "homes": [new[d][0] for d in devices],
                "manufacturers": [manufacturer for manufacturer, _ in described],
                "models": [model for _, model in described],
                "firmwares": [new[d][1].firmware for d in devices],
            },
        )

    async def _at_home(self, number: int, home: "_Home") -> bool:
        if home.gateway_id == number:
            return True
        if home.silent_s < self._limits.handover_silence_s:
            return False
        await self._connection.execute(
            sql("line/hand_over"), {"home": number, "device_id": home.device_id, "was": home.gateway_id}
        )
        # Its former home is known by it still, and would go on writing beside the new one. Not at once: what the
        # batches at hand have found is in the same cache.
        self._known_until_s = float("-inf")
        return True

    async def _make_series(self, rows: list[tuple[int, Series]]) -> None:
        if not rows:
            return
        await self._connection.execute(
            sql("line/register_series"),
            {
                "device_ids": [device_id for device_id, _ in rows],
                "channels": [s.channel for _, s in rows],
                "quantities": [s.quantity for _, s in rows],
                "units": [s.unit for _, s in rows],
                "profiles": [s.profile for _, s in rows],
                "firmwares": [s.firmware for _, s in rows],
            },
        )


@dataclass(frozen=True, slots=True)
class _Home:
    """Whose a device is, and for how long that gateway has been silent."""

    device_id: int
    gateway_id: int
    gateway: str
    silent_s: float


def _site(gateway: str) -> str:
    return gateway.split("/", 1)[0]
