"""Public kit for backend authors: the parts of a runner that do not depend on its engine."""
