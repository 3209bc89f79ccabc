"""A pytest plugin loaded before Django's settings: a DATA_DIR and a hub of this run, none of the caller's settings."""

import os
import tempfile
from pathlib import Path

from tests.support.hub import model_hub

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
    "SECURITY_LOG",
    "LOG_FORMAT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "SENTRY_DSN",
    "METRICS_TOKEN",
    "METRICS_NETWORKS",
    "WAIT_SECONDS",
    "EMAIL_URL",
    "SITE_NAME",
    "SITE_LOGO",
    "SITE_ACCENT",
    "SITE_URL",
    "HF_TOKEN",
    "HF_HUB_OFFLINE",
    # Each of the many processes would compile the project again.
    "PYTHONDONTWRITEBYTECODE",
):
    os.environ.pop(_name, None)
os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="dreamsite-test-")
os.environ["MODELS_OFFLINE"] = "on"
# Workers that are idle in a test stay so. Tests of canaries switch them on.
os.environ["CANARIES"] = "off"
# huggingface_hub reads these once, when it is imported: no test asks the public hub, or sends somebody's token.
os.environ["HF_ENDPOINT"] = model_hub().url
os.environ["HF_HOME"] = os.environ["DATA_DIR"] + "/huggingface"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
