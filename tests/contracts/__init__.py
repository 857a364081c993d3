"""What holds for the project as a whole: who may know whom, and what each machine must install."""
