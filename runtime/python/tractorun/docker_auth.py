"""Credentials for a private Docker registry."""

from __future__ import annotations

import abc
from dataclasses import dataclass

__all__ = ["DockerAuthData", "DockerAuthSecret"]


class DockerAuthData(abc.ABC):  # noqa: B024 - a common name for the ways to give credentials
    """Any way to give credentials."""


@dataclass
class DockerAuthSecret(DockerAuthData):
    """A Cypress document that holds them; the launcher reads it and keeps it secret."""

    cypress_path: str
