"""From rows to batches: samples, sources, prompts, views, the sampler and the collator."""

from unlearn.data.collator import Collator
from unlearn.data.sampler import EpochSampler
from unlearn.data.samples import EvalItem, Sample, SampleSource
from unlearn.data.sources import load_split
from unlearn.data.views import ForgetRetainDataset

__all__ = ["Collator", "EpochSampler", "EvalItem", "ForgetRetainDataset", "Sample", "SampleSource", "load_split"]
