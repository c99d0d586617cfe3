"""Runs one study: from a configuration to its last trial."""
