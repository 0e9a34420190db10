"""Dagster's face of the adapters: configurable resources, and nothing else."""
