"""Pure translation of the OpenAI and Anthropic APIs to and from the native requests and records."""
