"""What was removed on request, and stays removed."""
