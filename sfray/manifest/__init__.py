"""The manifest: its files, their columns, its rows in one flat form."""
