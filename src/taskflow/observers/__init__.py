"""Who watches: one file per target."""
