"""Request and reply types of the native API, and the JSON they travel in."""
