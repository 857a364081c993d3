"""`heal7-iot demo`: the whole line on one machine, from the bytes of emulated sensors to committed rows."""
