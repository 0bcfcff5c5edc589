"""The distribution protocol's side of the house; for now, the server's key pair."""
