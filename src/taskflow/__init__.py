"""Background tasks that are not lost."""
