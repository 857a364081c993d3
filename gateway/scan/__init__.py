"""What could be configured on this machine: looked at, told, ready to be pasted."""
