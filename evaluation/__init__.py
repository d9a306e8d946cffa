"""Evaluation: what strategies reach and what they cost, measured over HTTP on running services.

A run solves the problems of a set under each of its plans, and appends a row per solve to a file, so that it can be resumed.
All other modules read rows: reports and figures summarise them, replays apply other votes to the same samples. Nothing here
starts a service or reaches into one. Import the modules by name: the figures need matplotlib, the statistics numpy.
"""
