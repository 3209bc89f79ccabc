"""How the admin writes times: to the second, and as the pages do."""

DATETIME_FORMAT = "Y-m-d H:i:s"
