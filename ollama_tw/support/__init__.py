"""Parts for backends, ours and foreign: what a runner has to do whatever its engine is."""
