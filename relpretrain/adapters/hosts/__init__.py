"""What each foreign codebase looks like as a backbone: a file each, with what they share in `base` and `regions`."""
