"""The actor: drafts and refines step-by-step solutions."""
