"""The command line, and the only package that composes the services.

`cli` declares the commands, `options` the options they share. Commands that need a running service use it over HTTP through
`connection`, as any client does, and print its events with `render`. `up` and `stack` run the services as child processes
under `supervisor`. Nothing is re-exported, so that importing one module does not load every service.
"""
