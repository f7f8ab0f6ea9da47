"""What the command line offers: the parsers of its commands, an example for each, completion in a shell."""
