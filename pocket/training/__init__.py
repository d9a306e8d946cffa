"""Training of the pocket pair. Needs the extra `pocket`; nothing else in the project imports it."""
