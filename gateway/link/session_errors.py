"""What either end does when its connection to the broker goes."""


class SessionLost(Exception):
    """The connection to the broker is gone, or never came: wait and open a new session."""
