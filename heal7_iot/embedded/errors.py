"""What a person is told when an embedded server cannot be had."""


class EmbeddedServerError(Exception):
    """An embedded server did not start; the message says which and why."""
