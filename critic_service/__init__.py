"""The critic: judges solutions step by step.

`service` runs its calls; a dialect (`dialects`) phrases the question and parses the answer for a family of models; `scoring`
turns token log-probabilities into probabilities; `nonce` keeps the actor's text from speaking for the critic. An answer that
cannot be parsed is `unsure`, never `correct`.
"""
