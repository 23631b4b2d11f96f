"""The paths of the API that others than its own routes need to know."""

CANCEL_PATH = "/api/admin/xfer/cancel/v1"
"""POST: cancel a transfer. GET: list commands; with `/{id}`: one."""

START_PATH = "/api/admin/xfer/v1"
"""POST: start a transfer."""
