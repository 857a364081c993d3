"""The whole line, each part a process of its own, from bytes on a pseudo-terminal to rows; and what faults do to it."""
