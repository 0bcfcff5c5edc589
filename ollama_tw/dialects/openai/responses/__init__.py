"""``/v1/responses``, of which nothing is kept. Source: ``spec/inference-api.md`` section 6.7."""
