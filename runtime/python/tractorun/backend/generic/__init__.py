"""For any framework, and for none."""

from tractorun.backend.generic.backend import GenericBackend

__all__ = ["GenericBackend"]
