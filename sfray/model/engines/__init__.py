"""From a prefix and many suffixes to texts: two engines behind one interface."""
