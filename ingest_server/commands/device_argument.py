"""How commands name a device: SITE/DEVICE, as `heal7-iot devices list` shows them."""

from ingest_server.commands.database_option import refuse


def split(device: str) -> tuple[str, str]:
    """Its site and its name; exit 2 where one of them is missing."""
    site, slash, name = device.partition("/")
    if not (site and slash and name):
        refuse(f"{device!r} names no device: write SITE/DEVICE, as `heal7-iot devices list` shows them")
    return site, name
