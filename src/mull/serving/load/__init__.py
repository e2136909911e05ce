"""A server under load: `auto` gives a smaller λ while many responses are under way, or to hold a target of time."""
