"""What backend services and operators ask for."""
