"""The OpenAI API. Source: ``spec/inference-api.md`` section 6, ``spec/better.md`` rows 7, 8 and 17."""
