"""Backups: made, restored, proved, and refused where they are not what they were."""
