"""The asset graph: one thin file per stage, with partitions, jobs and definitions beside them."""
