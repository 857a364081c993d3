"""Deliberate breaches of the promises: mistakes that a good engineer could make, and the faults that find each.

A breach is small, and no ordinary test sees it: those run on one machine, in which no cable is pulled at the wrong
moment. `test_mutations` proves both for each.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement. old: occurs exactly once in the file."""

    file: str
    old: str
    new: str

    def apply(self, root: Path) -> None:
        """Raises AssertionError where the code has moved on."""
        path = root / self.file
        text = path.read_text()
        assert text.count(self.old) == 1, f"{self.file} has {text.count(self.old)} times:\n{self.old}"
        path.write_text(text.replace(self.old, self.new))


@dataclass(frozen=True, slots=True)
class Mutation:
    """breaks: the promise. only: the kinds of fault that find it; faults: how many of them between two comparisons.

    settles: whether the line always comes to rest all the same, and the comparison finds what is wrong; else it may go
    on for ever, which shows it, too.
    """

    name: str
    breaks: str
    edits: tuple[Edit, ...]
    only: tuple[str, ...]
    faults: int = 4
    settles: bool = True


ACK_BEFORE_COMMIT = Mutation(
    "ack before commit",
    "A reading is safe when the database has committed it, and not before: here the receipt goes out while it writes.",
    (
        Edit(
            "ingest_server/pipeline.py",
            "                settled = await self._write(self._writer, opened, done, retry=retry)\n",
            "                self._receipts.send(opened_keys(opened), opened_keys(opened))\n"
            "                settled = await self._write(self._writer, opened, done, retry=retry)\n",
        ),
    ),
    ("kill in commit",),
)

LOST_ANSWER_TAKEN_FOR_DONE = Mutation(
    "an answer that was lost is taken for done",
    "After a COMMIT without an answer the ledger is asked: here it is believed.",
    (
        Edit(
            "ingest_server/storage/connection.py",
            "        async with connection.transaction():\n            yield\n",
            "        asked = False\n"
            "        try:\n"
            "            async with connection.transaction():\n"
            "                yield\n"
            "                asked = True\n"
            "        except psycopg.OperationalError:\n"
            "            if not asked:\n"
            "                raise\n",
        ),
    ),
    ("cut commit",),
)

PUBACK_FREES_THE_SPOOL = Mutation(
    "PUBACK frees the spool",
    "Only a receipt frees a batch: here the broker's acknowledgement does.",
    (
        Edit(
            "gateway/sending.py",
            "                await self._session.publish(self._topic, payload)\n",
            "                await self._session.publish(self._topic, payload)\n"
            "            await self._spool.run(partial(_free, identity))\n",
        ),
        Edit(
            "gateway/sending.py",
            "def fits(session: Session, topic: str, payload: bytes) -> bool:\n",
            "def _free(delivered: Identity, spool: Spool) -> None:\n"
            "    if spool.pinned_ledger is not None:\n"
            "        spool.apply_receipt(spool.pinned_ledger, {delivered.epoch: RangeSet.of([delivered.seq])}, 0)\n"
            "        spool.free_replayed(1e10)\n\n\n"
            "def fits(session: Session, topic: str, payload: bytes) -> bool:\n",
        ),
        Edit(
            "gateway/sending.py",
            "from gateway.link import wire\n",
            "from gateway.link import wire\nfrom gateway.link.ranges import RangeSet\n",
        ),
    ),
    ("forget batches",),
)

LEDGER_OUTSIDE_THE_TRANSACTION = Mutation(
    "ledger outside the transaction",
    "Readings and their ledger entry commit together: here the readings go first.",
    (
        Edit(
            "ingest_server/storage/line/group.py",
            "            await require_rules(connection, min(rules))\n        return await _claim(",
            "            await require_rules(connection, min(rules))\n"
            "    async with transaction(connection):\n"
            "        return await _claim(",
        ),
    ),
    ("cut commit", "kill in commit"),
)

EPOCH_KEPT_OVER_A_REOPENING = Mutation(
    "epoch kept over a reopening",
    "Each opening of the spool draws a new epoch at random: here the boot's name is the seed.",
    (
        Edit(
            "gateway/app.py",
            "SpoolThread.open(config.spool_path, options, boot, self._clock.wall_s())",
            "SpoolThread.open(\n"
            "                    config.spool_path,\n"
            "                    options,\n"
            "                    boot,\n"
            "                    self._clock.wall_s(),\n"
            "                    partial(Random(boot.boot_id).randint, 1, 2**63 - 1),\n"
            "                )",
        ),
        Edit("gateway/app.py", "from pathlib import Path\n", "from pathlib import Path\nfrom random import Random\n"),
    ),
    ("roll back spool",),
    settles=False,
)

BOUND_WITHOUT_A_GAP = Mutation(
    "bound without a gap",
    "What is dropped at the bound is told: here a batch without readings is not worth sending, and a gap has none.",
    (
        Edit(
            "gateway/sending.py",
            "            if identity in self.under_way or live is not",
            "            if not stored.readings or identity in self.under_way or live is not",
        ),
    ),
    ("reach bound",),
    faults=1,
    settles=False,
)

STALE_RECEIPT_TAKES_BACK = Mutation(
    "a stale receipt takes back",
    "Only an answer to the latest status may take back: here any answer may.",
    (
        Edit(
            "gateway/conversation.py",
            "answers = asked is not None and receipt.nonce == asked.nonce",
            "answers = asked is not None and receipt.nonce is not None",
        ),
    ),
    ("repeat messages",),
)

DUPLICATE_WITHIN_ONE_GROUP = Mutation(
    "a duplicate within one group",
    "A redelivery inside one group is one batch: here the group keeps the order of arrival, copies included.",
    (
        Edit(
            "ingest_server/pipeline.py",
            "[(numbers[g], o) for (g, _, _), o in unique.items()]",
            "[(numbers[o.delivery.gateway], o) for o in opened if identity(o.batch.envelope) in unique]",
        ),
    ),
    ("redeliver batches",),
)

CACHE_KEPT_OVER_A_ROLLBACK = Mutation(
    "a cache kept over a rollback",
    "Numbers of the catalogue are believed after COMMIT, on the connection that brought them: here neither.",
    (
        Edit(
            "ingest_server/storage/line/catalogue.py",
            "            await self._make_series(rows)\n        await self._find(",
            "            await self._make_series(rows)\n            await self._find(",
        ),
        Edit(
            "ingest_server/storage/line/catalogue.py",
            "        self._series: dict[tuple[int, Series], int] = {}\n",
            "        self._series = _LEARNED\n",
        ),
        Edit(
            "ingest_server/storage/line/catalogue.py",
            "_ATTEMPTS = 3\n",
            "_LEARNED: dict[tuple[int, Series], int] = {}\n_ATTEMPTS = 3\n",
        ),
        Edit(
            "ingest_server/storage/line/catalogue.py",
            'self._known_until_s = float("-inf")\n        self._mark',
            'self._known_until_s = float("inf")\n        self._mark',
        ),
    ),
    ("cut registration",),
)

SETTLED_AFTER_A_CHECKSUM_ERROR = Mutation(
    "settled after a checksum error",
    "What is damaged settles nothing: here a receipt keeps the gateway from sending the same again and again.",
    (
        Edit(
            "ingest_server/pipeline.py",
            "            self._counters.damaged += 1\n",
            "            self._counters.damaged += 1\n"
            '            if "body" in str(error):\n'
            '                epoch, seq = struct.unpack_from("<QQ", delivery.payload, 16)\n'
            "                told = {(delivery.gateway, epoch): RangeSet.of([seq])}\n"
            "                self._receipts.send(told, told)\n",
        ),
        Edit("ingest_server/pipeline.py", "import logging\n", "import logging\nimport struct\n"),
    ),
    ("damage batches",),
)

CLAIM_WITHOUT_THE_SECOND_LOOK = Mutation(
    "claim without the second look",
    "What another worker settled meanwhile undoes this attempt: here the look before COPY is enough.",
    (
        Edit(
            "ingest_server/storage/line/group.py",
            "    if any(settled for settled, _ in seen.values()):\n"
            '        raise SettledMeanwhile("another worker settled a batch of this group")\n',
            "",
        ),
    ),
    ("redeliver batches",),
)

GAP_OVER_WHAT_ARRIVED = Mutation(
    "a gap over what has arrived",
    "The first settlement wins: here a gap counts all that it names.",
    (
        Edit(
            "ingest_server/storage/line/group.py",
            "newly = named - settled - claim.settled",
            "newly = named",
        ),
    ),
    ("reach bound",),
    faults=1,
)

MUTATIONS = (
    ACK_BEFORE_COMMIT,
    LOST_ANSWER_TAKEN_FOR_DONE,
    PUBACK_FREES_THE_SPOOL,
    LEDGER_OUTSIDE_THE_TRANSACTION,
    EPOCH_KEPT_OVER_A_REOPENING,
    BOUND_WITHOUT_A_GAP,
    STALE_RECEIPT_TAKES_BACK,
    DUPLICATE_WITHIN_ONE_GROUP,
    CACHE_KEPT_OVER_A_ROLLBACK,
    SETTLED_AFTER_A_CHECKSUM_ERROR,
    CLAIM_WITHOUT_THE_SECOND_LOOK,
    GAP_OVER_WHAT_ARRIVED,
)
