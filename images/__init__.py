"""Make and publish images."""
