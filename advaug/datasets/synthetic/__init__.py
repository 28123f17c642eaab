"""Data sets that are drawn on demand, with exact landmarks."""
