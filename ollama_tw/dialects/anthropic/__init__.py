"""The Anthropic API. Source: ``spec/inference-api.md`` section 7."""
