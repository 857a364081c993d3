"""The vectors of wire format 1: two implementations read them alike, and nobody edits them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.link import wire
from gateway.link.errors import DamagedBatch, UnsupportedVersion, UnusableBatch
from ingest_server.decoder import Columns, open_body
from tests.golden.wire import independent

V1 = Path(__file__).parents[2] / "golden" / "wire" / "v1"
SUMS = "1159bd47208f9ef8c0db0e7454dc2f8aad08892bf9bfabb70e2286892500a058"
"""SHA-256 of `SHA256SUMS`, which names all files. It never changes: a new vector goes into a new folder or list."""

VECTORS: list[dict[str, Any]] = json.loads((V1 / "vectors.json").read_text())


def test_no_vector_was_edited() -> None:
    sums = (V1 / "SHA256SUMS").read_bytes()
    assert hashlib.sha256(sums).hexdigest() == SUMS, "golden files are never edited: restore v1/ from the repository"
    listed = {name: digest for digest, name in (line.split("  ") for line in sums.decode().splitlines())}
    found = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in V1.iterdir() if f.suffix in (".bin", ".json")}
    assert found == listed


def test_every_file_is_described() -> None:
    assert {f.name for f in V1.glob("*.bin")} == {vector["file"] for vector in VECTORS}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["file"])
def test_both_readers_agree(vector: dict[str, Any]) -> None:
    payload = (V1 / vector["file"]).read_bytes()
    expected = (vector["fate"], vector.get("decoded"))
    assert by_the_text(payload, vector["topic"]) == expected
    assert by_our_code(payload, vector["topic"]) == expected


def by_the_text(payload: bytes, topic: str) -> tuple[str, dict[str, Any] | None]:
    try:
        return "sound", independent.read(payload, topic)
    except independent.Fate as fate:
        return fate.fate, None


def by_our_code(payload: bytes, topic: str) -> tuple[str, dict[str, Any] | None]:
    """What our decoder makes of it, in the vectors' words."""
    try:
        batch = wire.decode(payload, topic)
        body = open_body(batch)
        content = _columns(body) if isinstance(body, Columns) else {"gaps": [_gap(gap) for gap in body]}
    except DamagedBatch:
        return "damaged", None
    except UnsupportedVersion:
        return "unsupported", None
    except UnusableBatch:
        return "unusable", None
    e = batch.envelope
    return "sound", {
        "kind": ("data", "gap")[e.kind],
        "gateway": e.gateway,
        "epoch": f"{e.epoch:016x}",
        "seq": e.seq,
        "readings_before": e.readings_before,
        "clock": {
            "offset_us": e.anchor.offset_us,
            "uncertainty_us": e.anchor.uncertainty_us,
            "source": ("kernel", "system", "estimated")[e.anchor.source],
        },
        "instance": f"{e.instance:016x}",
        **content,
    }


def _columns(body: Columns) -> dict[str, Any]:
    table = wire.decode_series(body.table)
    if int(body.series.max()) >= len(table):
        raise UnusableBatch("a reading names a series that its table does not have")
    return {
        "series": [[s.device, s.channel, s.quantity, s.unit, s.profile, s.firmware] for s in table],
        "recorded_at_us": body.times_us.tolist(),
        "series_index": body.series.tolist(),
        "value": [v.hex() for v in body.values.tolist()],
        "reliability": body.reliability.tolist(),
        "causes": [c & 0xFFFF_FFFF for c in body.causes.tolist()],
        "frames": {str(index): frame.hex() for index, frame in body.frames.items()},
    }


def _gap(gap: wire.Gap) -> dict[str, Any]:
    return {
        "reason": gap.reason,
        "epoch": f"{gap.epoch:016x}",
        "first": gap.first,
        "counts": list(gap.counts),
        "readings": gap.readings,
        "from": gap.from_us,
        "to": gap.to_us,
    }
