"""`heal7-iot gateway scan` on emulated lines and an emulated BlueZ."""
