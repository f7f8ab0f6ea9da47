"""Results as people read them: the terminal, Markdown, JSON, and a page with plots and published figures."""
