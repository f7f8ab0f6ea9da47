"""What the documentation site has beside the files of `docs/`: pages made from the package while the site is built."""
