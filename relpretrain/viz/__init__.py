"""What a person looks at: pictures and pages about data and runs."""
