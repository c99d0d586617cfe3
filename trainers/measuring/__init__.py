"""What steps cost: of a configuration, and of this machine."""
