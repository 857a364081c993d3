"""What a group of batches is entered by: one transaction of readings, ledger, latest values, log of rollups."""
