"""Files that tests compare with and that nobody edits."""
