"""Rendered faces with 68 exact landmarks."""
