"""What Farmy costs, measured as a user would: each benchmark is a module of its own, `python -m benchmarks.NAME`."""
