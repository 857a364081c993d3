"""Faults, injected into real processes: nothing sealed is lost, and nothing counts twice."""
