"""The operations pages: dashboard, alerts, metrics, worker commands and retention."""
