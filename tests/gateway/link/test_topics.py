"""Which topics there are, and whose they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.link.topics import Topics, is_gateway_name

NAMES = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)


@given(NAMES.filter(lambda n: n != "server"), NAMES)
def test_a_gateways_topics_are_its_own(site: str, gateway: str) -> None:
    topics, name = Topics("heal7/v1"), f"{site}/{gateway}"
    assert is_gateway_name(name)
    for topic in (topics.batch(name), topics.status(name), topics.receipt(name)):
        assert topic.startswith("heal7/v1/")
        assert topics.gateway_of(topic) == name


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "heal7/v1",
        "heal7/v1/a/b",
        "heal7/v1/a/b/c/d",
        "heal7/v2/a/b/batch",
        "heal7/v1x/a/b/batch",
        "heal7/v1/server/b/batch",
        "heal7/v1/a b/c/batch",
        "heal7/v1//b/batch",
        "heal7/v1/a/" + "b" * 65 + "/batch",
        "heal7/v1/로비/b/batch",
        "heal7/v1/a\n/b/batch",
        "$SYS/a/b/batch",
    ],
)
def test_other_topics_are_nobodys(topic: str) -> None:
    assert Topics("heal7/v1").gateway_of(topic) is None


@given(st.text(max_size=40))
def test_any_text_is_a_topic_of_a_valid_name_or_of_none(text: str) -> None:
    name = Topics("r").gateway_of(f"r/{text}/batch")
    assert name is None or (is_gateway_name(name) and name == text)


@pytest.mark.parametrize("name", ["server/a", "a", "a/b/c", "/a", "a/", "a/b\n", "a/ä"])
def test_names_that_no_gateway_has(name: str) -> None:
    assert not is_gateway_name(name)
