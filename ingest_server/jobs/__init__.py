"""What the server does by the clock: which jobs there are, who runs them, and what became of each run."""
