"""Foreign APIs as pure translation to and from the native requests and records."""
