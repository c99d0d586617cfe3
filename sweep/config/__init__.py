"""sweep.toml and the flags over it: what a user may say, checked."""
