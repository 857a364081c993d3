"""Raw frames of readings that were decoded: kept where the operator wants it, so that they can be decoded again."""
