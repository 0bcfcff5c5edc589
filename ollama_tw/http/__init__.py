"""The doors: parse a request, call the room that knows, stream the answer out."""
