"""From the broker to committed rows."""
