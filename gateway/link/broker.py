"""How either end reaches the broker: the `[mqtt]` table of both configuration files."""

import ipaddress
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from gateway.link.topics import DEFAULT_ROOT, Topics


class BrokerOptions(BaseModel):
    """Address of the broker and how to speak to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 1883
    username: str | None = None
    password: SecretStr | None = None
    root: str = DEFAULT_ROOT
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    keepalive_s: Annotated[int, Field(ge=2, le=600)] = 15
    connect_timeout_s: Annotated[float, Field(gt=0, le=120)] = 10.0
    insecure: bool = False

    @field_validator("root")
    @classmethod
    def _plain_root(cls, root: str) -> str:
        if not root or root.startswith("/") or root.endswith("/") or set(root) & set("+#$\0"):
            raise ValueError("must be topic levels such as heal7/v1, without +, #, $ or a slash at either end")
        return root

    @model_validator(mode="after")
    def _loopback_unless_insecure(self) -> "BrokerOptions":
        if not self.insecure and not _is_loopback(self.host):
            raise ValueError(
                f"host {self.host} is beyond loopback, and this version has no TLS: anybody on the way could read"
                " and forge readings; set insecure = true if you accept that, or use a broker on 127.0.0.1"
            )
        return self

    @property
    def topics(self) -> Topics:
        return Topics(self.root)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class ProtocolChoice:
    """Which MQTT version to try next: 5 where the broker offers it, else 3.1.1.

    A broker that does not know MQTT 5 may refuse it properly, close the line or stay silent; all of these look
    like any other failure, so with `auto` the two take turns until one has worked, which is then kept.
    """

    def __init__(self, protocol: Literal["auto", "5", "3.1.1"]) -> None:
        self._settled = protocol != "auto"
        self.version5 = protocol != "3.1.1"

    def worked(self) -> None:
        self._settled = True

    def failed(self) -> None:
        if not self._settled:
            self.version5 = not self.version5
