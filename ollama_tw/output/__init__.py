"""Stream parsing of thinking and tool calls out of generated text. Pure."""
