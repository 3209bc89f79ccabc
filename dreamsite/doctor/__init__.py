"""What `manage.py doctor` looks at: the machine, the parts of the service, and what is outside of it."""
