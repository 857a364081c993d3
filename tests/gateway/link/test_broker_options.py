"""The `[mqtt]` table: what it refuses before anybody connects, and which protocol is tried."""

import pytest
from pydantic import ValidationError

from gateway.link.broker import BrokerOptions, ProtocolChoice


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1", "[::1]"])
def test_loopback_needs_no_permission(host: str) -> None:
    assert BrokerOptions(host=host).host == host


@pytest.mark.parametrize(
    "host", ["10.0.0.7", "broker.example", "0.0.0.0", "::", "localhost.example", "", "127.0.0.1.nip.io"]
)
def test_a_broker_beyond_loopback_needs_insecure(host: str) -> None:
    with pytest.raises(ValidationError, match=r"beyond loopback.*insecure = true"):
        BrokerOptions(host=host)
    assert BrokerOptions(host=host, insecure=True).insecure


@pytest.mark.parametrize("root", ["", "/a", "a/", "a/+", "a/#", "$share/a", "a\0b"])
def test_a_root_that_is_no_topic_is_refused(root: str) -> None:
    with pytest.raises(ValidationError, match="topic levels"):
        BrokerOptions(root=root)


def test_a_password_does_not_show() -> None:
    assert "hunter2" not in repr(BrokerOptions.model_validate({"username": "u", "password": "hunter2"}))


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="tls"):
        BrokerOptions.model_validate({"tls": True})


def test_auto_takes_turns_until_one_works() -> None:
    choice = ProtocolChoice("auto")
    tried = []
    for _ in range(3):
        tried.append(choice.version5)
        choice.failed()
    assert tried == [True, False, True]
    assert not choice.version5
    choice.worked()
    choice.failed()
    choice.failed()
    choice.failed()
    assert not choice.version5, "what has worked once is kept"


@pytest.mark.parametrize(("protocol", "version5"), [("5", True), ("3.1.1", False)])
def test_a_named_protocol_is_not_changed(protocol: str, version5: bool) -> None:
    choice = ProtocolChoice(protocol)  # type: ignore[arg-type]
    choice.failed()
    assert choice.version5 is version5
