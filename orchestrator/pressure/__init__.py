"""Whether a replica takes new sagas at the moment."""
