"""Mission control: what staff see of the running service, and what they can do to it."""
