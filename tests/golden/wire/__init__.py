"""The wire format, seen from outside: vectors, and a second implementation."""
