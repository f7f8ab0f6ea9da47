"""Do the relation objectives work? Many small models trained under control, and a page of what came out."""
