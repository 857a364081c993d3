"""What is said of devices by hand and by profile: places, successions, channels."""
