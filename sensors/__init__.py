"""What starts runs: arrivals in landing, progress of annotation, the daily reconcile."""
