"""The link: bytes, topics, control messages, sessions."""
