"""Measures what strategies reach and what they cost, over HTTP, against running services."""
