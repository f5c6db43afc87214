"""`baton doctor`: looks at everything that a replica needs, and says what to do about what is wrong."""
