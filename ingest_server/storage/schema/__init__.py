"""How the schema comes to be, and what has changed of it since."""
