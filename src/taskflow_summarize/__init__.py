"""Text summarisation as taskflow tasks."""
