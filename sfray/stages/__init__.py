"""Decoding and answering as callables that know no Ray."""
