"""The distribution protocol: pull models from registries and push them."""
