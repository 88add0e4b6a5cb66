"""JAX."""

from tractorun.backend.tractorax.backend import Tractorax

__all__ = ["Tractorax"]
