"""One file for each format of annotated pictures."""
