"""The critic: judges solutions step by step."""
