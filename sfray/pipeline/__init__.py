"""The stages on Ray Data, the cluster that they are on, and all that is private of Ray."""
