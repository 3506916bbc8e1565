"""What users hold: one file a task."""
