"""One command's work: one or more studies put together."""
