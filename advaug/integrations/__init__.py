"""Other people's trainers: one file each, imported by its name; `shared` is for all the others."""
