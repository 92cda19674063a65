"""The client of the HTTP API: `from topwork import Topwork, AsyncTopwork`."""
