"""run_report."""
