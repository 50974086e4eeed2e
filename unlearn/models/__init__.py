"""Models: families, loading, processors, adapters, the forward that scores every view."""

from unlearn.models.families import Family, load_family
from unlearn.models.forward import StudentForward
from unlearn.models.loading import load_model
from unlearn.models.processors import load_processor

__all__ = ["Family", "StudentForward", "load_family", "load_model", "load_processor"]
