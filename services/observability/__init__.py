"""Logs, metrics and traces. Each has one module, which decides names and formats; what is measured is decided by its user.

Every log line and span carries the id of its request. Metrics have labels of closed sets only. Without an exporter, a span
costs nothing.
"""
