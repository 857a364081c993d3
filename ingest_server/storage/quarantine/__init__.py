"""Looking at what could not be entered, replaying it, discarding it."""
