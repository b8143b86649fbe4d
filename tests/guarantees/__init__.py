"""Counts in how many explored runs each guarantee held, and writes docs/guarantees.md.

``python -m tests.guarantees --help``; each scenario runs in a process of its own.
"""
