"""What studies hold and say; nothing here starts a trial."""
