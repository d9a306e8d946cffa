"""Wire types, which are also the domain types: frozen pydantic models that import nothing else of the project.

What a client sends is strict, what a service sends is read leniently (`base`). Events are unions discriminated by `type`.
"""
