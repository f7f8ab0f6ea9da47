"""What doctor, audit and show share: reading shards once, the data of a recipe, tables for the terminal."""
