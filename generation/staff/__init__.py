"""The admin: generations, models, users, review and operations."""
