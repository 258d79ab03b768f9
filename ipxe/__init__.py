"""Answer network boots."""
