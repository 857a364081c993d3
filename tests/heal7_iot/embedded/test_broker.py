"""Both brokers for real: MQTT through them by the gateway's own session, ports, ends."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import psutil
import pytest

from gateway.link.broker import BrokerOptions, ProtocolChoice
from gateway.link.session import Session
from gateway.link.session_errors import SessionLost
from heal7_iot.embedded.broker import BrokerKind, EmbeddedBroker, installed
from heal7_iot.embedded.errors import EmbeddedServerError
from tests.peers.needs import wants


@pytest.fixture(params=get_args(BrokerKind))
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedBroker]:
    if installed(request.param) is None:
        pytest.skip(wants(request.param))
    broker = EmbeddedBroker(tmp_path / "broker", request.param)
    yield broker
    broker.stop()


async def test_a_session_falls_back_to_what_the_broker_speaks(broker: EmbeddedBroker) -> None:
    broker.start()
    options = BrokerOptions(port=broker.port)
    choice = ProtocolChoice(options.protocol)
    refused = 0
    while True:
        session = Session(options, "t", ("heal7/v1/s.1/g/status", b"gone"), choice.version5)
        try:
            async with asyncio.timeout(10), session:
                await session.subscribe("heal7/v1/s.1/g/batch")
                await session.publish("heal7/v1/s.1/g/batch", b"x" * 131_072)
                arrived = await anext(aiter(session.messages()))
            break
        except SessionLost:
            refused += 1
            choice.failed()
            assert refused < 3
    assert arrived == ("heal7/v1/s.1/g/batch", b"x" * 131_072)
    assert choice.version5 == (broker.kind == "mosquitto")


def test_it_listens_on_loopback_only(broker: EmbeddedBroker) -> None:
    broker.start()
    (process,) = [c for c in psutil.Process().children() if c.name() in ("mosquitto", "nats-server")]
    listening = [c.laddr for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert broker.port in {address.port for address in listening}
    assert {address.ip for address in listening} == {"127.0.0.1"}


def test_a_killed_broker_comes_back_where_its_clients_look_for_it(broker: EmbeddedBroker) -> None:
    broker.start()
    port = broker.port
    broker.kill()
    broker.start()
    assert broker.port == port


def test_a_port_that_is_taken_is_not_mistaken_for_its_own(broker: EmbeddedBroker) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        broker.port = other.getsockname()[1]
        with pytest.raises(EmbeddedServerError, match=f"{broker.kind} did not start"):
            broker.start()
    assert not broker.running


def test_stopping_twice_or_before_the_start_is_no_error(broker: EmbeddedBroker) -> None:
    broker.stop()
    broker.start()
    broker.stop()
    broker.stop()
    assert not broker.running


def test_a_broker_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heal7_iot.embedded.broker.installed", lambda kind: None)
    with pytest.raises(EmbeddedServerError, match="neither mosquitto nor nats"):
        EmbeddedBroker(tmp_path)
    with pytest.raises(EmbeddedServerError, match="nats is not installed"):
        EmbeddedBroker(tmp_path, "nats")
