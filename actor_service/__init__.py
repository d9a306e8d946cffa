"""The actor: drafts and refines step-by-step solutions.

`service` runs its calls; a dialect (`dialects`) phrases them for a family of models; `steps` and `answer` read its
output. Steps are emitted while the solution is written.
"""
