"""The participant kit of Baton, which gives a gRPC service the barrier on its own Postgres, and a sample shop."""
