"""What a device of a given model and firmware range speaks and means."""
