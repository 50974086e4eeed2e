"""A finished run for others: adapter or merged model, model card, upload."""

from unlearn.publish.export import PublishSettings, publish

__all__ = ["PublishSettings", "publish"]
