"""Numbers without models or files: what makes an item right, intervals and tests, tables of figures."""
