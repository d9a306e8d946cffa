"""Wire types, which are also the domain types: frozen pydantic models that import nothing else of the project.

Requests are validated strictly, replies are read leniently (`base`). Events are unions discriminated by `type`.
"""
