"""`heal7-iot profiles`: what is known of sensors, checked and begun."""
