"""History for a database, as if a fleet had sent it: through the server's own storage, without a broker."""
