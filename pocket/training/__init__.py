"""Training of the pocket pair. It needs the extra `pocket`, and nothing else in the project imports it."""
