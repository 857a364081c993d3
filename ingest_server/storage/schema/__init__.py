"""How the schema comes to be, and what is wrong with it."""
