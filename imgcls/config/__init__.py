"""What the user may say: frozen pydantic models, one declaration per option. Loads no torch."""
