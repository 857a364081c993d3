"""All that the two ends of the link must agree on."""
