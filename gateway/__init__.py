"""The edge daemon: reads sensors, keeps every sealed batch until the database has it."""
