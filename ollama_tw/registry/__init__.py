"""The distribution protocol's side of the house: signing in, pulling and pushing models."""
