"""The outside world, one file each: objects, tables, SQL, image index, Label Studio, models, compute, settings."""
