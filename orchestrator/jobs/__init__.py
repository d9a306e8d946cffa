"""Jobs: solves that outlive the connection that asked for them, and the worker that runs them."""
