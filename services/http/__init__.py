"""HTTP for all services: the application and its server, the client between services, and responses that own their work.

A client that disconnects cancels the work of its request, down to the engine. Every error, in either direction, is a typed
error of `services.errors` or its problem details (RFC 9457).
"""
