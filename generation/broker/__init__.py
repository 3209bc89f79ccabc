"""Redis: wake-ups, progress, cancel flags, the registry of workers, a lock, counters. Only this package knows its keys.

Losing Redis loses nothing, because the database rows are the truth: the reaper wakes workers for queued rows, waiting clients
also poll the database, a cancel request is stored in the row too, and workers register again with every heartbeat.
"""
