"""HTTP for all services: the application and its server, the client between services, and responses that own their work.

When a client disconnects, the work of its request is cancelled, down to the engine. In code, every error is a class of
`services.errors`; on the wire it is problem details (RFC 9457).
"""
