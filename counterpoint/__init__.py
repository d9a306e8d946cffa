"""The command line: the one place that composes the services."""
