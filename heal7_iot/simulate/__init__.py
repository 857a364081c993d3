"""Many gateways in one process, to size a server by and to test it: the real uplinks over spools in memory."""
