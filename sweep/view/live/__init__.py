"""A sweep while it runs: a screen, plain lines, JSON lines, TensorBoard."""
