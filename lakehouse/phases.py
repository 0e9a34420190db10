"""Where an image stands in annotation: computed from tasks and answers alone, so it can be computed again."""

QUEUED = "queued"
ANNOTATING = "annotating"
COMPLETE = "complete"
CONFLICT = "conflict"
