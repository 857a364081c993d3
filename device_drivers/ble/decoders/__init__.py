"""Decoders of advertisements, each imported when a device of its family is first heard."""
