"""Fleets: what simulated sensors say, and that all of it arrives."""
