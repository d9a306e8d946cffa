"""Logs, metrics and traces: one module each, which defines names and formats.

Every log line and span carries the id of its request. The labels of metrics have closed sets of values. Without an
exporter, spans cost nothing.
"""
