"""Public test kit: a backend that needs no model, and the contract suite of backends."""
