"""Write changed copies of a folder of annotated pictures."""
