"""What could not be entered: kept with its bytes, bounded, replayed."""
