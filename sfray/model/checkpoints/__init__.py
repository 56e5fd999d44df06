"""Where a model's files are, hub, folder or S3, and what they say of it."""
