"""The process that decodes a stranger's file, and its parent."""
