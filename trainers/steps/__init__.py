"""Training steps: of several members at once, side by side, and as many rows as fit."""
