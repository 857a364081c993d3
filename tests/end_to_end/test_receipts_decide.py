"""A broker that acknowledges and forgets, receipts of another database: only the receipt of our own frees the spool."""

import json

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from gateway.link.ranges import RangeSet
from gateway.link.receipts import EpochReceipt, Receipt
from gateway.link.status import ServerStatus, Status, parse
from tests.end_to_end.line import GATEWAY, Line


def client_of(line: Line) -> mqtt.Client:
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", line.broker.port)
    client.loop_start()
    return client


def test_a_broker_that_acknowledges_and_forgets_frees_nothing(line: Line) -> None:
    """The server's word stands retained at the broker, but nobody subscribes: each batch is acknowledged and gone."""
    line.start_ingest()
    line.start_gateway()
    line.wait_committed(200)
    line.kill("ingest")
    client = client_of(line)
    online = ServerStatus(state="online", wire=(1,), ledger="a lie").payload()
    client.publish("heal7/v1/server/status", online, qos=1, retain=True).wait_for_publish(5)
    before = line.committed()
    health = line.state / "health.json"

    def held_and_sent() -> bool:
        report = json.loads(health.read_text())
        return bool(report["spool"]["held_readings"] > 300 and report["uplink"]["resent"] > 3)

    line.wait("batches were acknowledged, and sent again", held_and_sent)
    assert line.committed() == before
    client.loop_stop()
    client.disconnect()
    line.start_ingest()
    line.wait_committed(600)
    line.sensors.close()
    line.wait_settled()
    line.stop_gateway()
    line.assert_exactly_once()


def test_receipts_of_another_database_repeated_and_stale_ones_change_nothing(line: Line) -> None:
    line.start_ingest()
    line.start_gateway()
    line.wait_committed(200)
    client = client_of(line)
    statuses: list[Status] = []
    receipts: list[bytes] = []

    def on_message(_c: object, _u: object, message: mqtt.MQTTMessage) -> None:
        if message.topic.endswith("/receipt"):
            receipts.append(bytes(message.payload))
        else:
            statuses.append(parse(Status, bytes(message.payload)))

    client.on_message = on_message
    client.subscribe([(f"heal7/v1/{GATEWAY}/status", 1), (f"heal7/v1/{GATEWAY}/receipt", 1)])
    line.wait("receipts and statuses were heard", lambda: len(receipts) > 5 and bool(statuses))
    stale = receipts[0]
    line.kill("ingest")
    line.wait_held(300)
    epoch = statuses[-1].epochs[-1].epoch
    lie = Receipt(
        ledger="6f0b7a52-0000-4000-8000-000000000000",
        epochs=(EpochReceipt(epoch=epoch, settled=RangeSet([(0, 100_000)])),),
        nonce=statuses[-1].nonce,
    ).payload()
    for payload in (lie, stale, stale, b"junk", lie):
        client.publish(f"heal7/v1/{GATEWAY}/receipt", payload, qos=1).wait_for_publish(5)
    line.wait(
        "the gateway counted the lies",
        lambda: json.loads((line.state / "health.json").read_text())["uplink"]["foreign_receipts"] >= 2,
    )
    client.loop_stop()
    client.disconnect()
    line.start_ingest()
    line.sensors.close()
    line.wait_settled()
    line.stop_gateway()
    line.assert_exactly_once()
    assert line.audit() == 0
