//! Asynchronous client of the YTsaurus HTTP API.
