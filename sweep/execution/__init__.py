"""Where trials run. It sees the protocol and the trainers, and nothing of studies."""
