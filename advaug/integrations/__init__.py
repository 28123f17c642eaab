"""Other people's trainers: one file each, imported by its name."""
