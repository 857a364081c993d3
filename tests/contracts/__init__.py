"""What the parts owe each other: who may know whom, and which machine needs what."""
