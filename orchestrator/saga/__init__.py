"""The pure core: what a saga is, and what happens next. No clock, no randomness, no logging, no await."""
