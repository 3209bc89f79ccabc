"""A pytest plugin loaded before Django's settings: a DATA_DIR of this run, and nothing of the caller's settings."""

import os
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

for _name in (
    "DATABASE_URL",
    "REDIS_URL",
    "S3_BUCKET",
    "HTTPS",
    "DEBUG",
    "SIGN_UP",
    "LIMITS",
    "MAX_BATCH",
    "DRAIN_SECONDS",
    "ALLOWED_HOSTS",
    "CORS_ORIGINS",
    "WAIT_SECONDS",
):
    os.environ.pop(_name, None)
os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="dreamsite-test-")
os.environ["MODELS_OFFLINE"] = "on"
