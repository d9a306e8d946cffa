"""The orchestrator: it spends a compute budget on calls of the actor and the critic, behind `POST /solve`.

`routes`, `openai`, `page` and `jobs` turn requests into a `SolveRequest`. The `runner` runs its strategy in a `solve`.
Start at `app`, which composes everything.
"""
