"""Why a simulation does not begin."""


class CannotSimulate(Exception):
    """Its text is one line for the person at the terminal; the command ends with code 1."""
