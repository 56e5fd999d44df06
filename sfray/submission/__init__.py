"""Jobs sent to a Ray cluster over HTTP: what travels, and how it is followed."""
