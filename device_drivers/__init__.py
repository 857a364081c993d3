"""From bytes to readings: codecs, transports and drivers."""
