"""The domain: what happens to an image between landing and a label.

Pure code: bytes and Arrow tables in, Arrow tables out. No orchestrator, no network, no clock, no environment.
"""
