"""For tests: a backend that needs no model, and the contract suite that every backend passes."""
