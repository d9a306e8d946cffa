"""Who may ask, how often, and for how many tokens a day."""
