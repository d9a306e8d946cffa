"""The shared foundation of the three services.

`contracts` are the wire types, `errors` the tree of errors, and `call_context` the identity of a call on every hop. `http`
and `observability` hold for every service; `role` and `engines` for the actor and the critic. Import the modules by name: a
package that re-exported them would load every engine.
"""
