"""Wire types, which are the domain types: frozen pydantic models that import nothing else of the project."""
