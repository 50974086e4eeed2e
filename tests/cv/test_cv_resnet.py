"""The network is transformers' ResNet under its own names, so that public weights mean the same."""

import pytest
import torch

from cv.network import resnet
from cv.network.resnet import Architecture, ResNet, build_resnet, load_pretrained


@pytest.fixture
def saved(tmp_path):
    """A random transformers ResNet classifier of an 18-layer kind, saved as the hub does."""
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[2, 2, 2, 2], layer_type="basic", num_labels=3
    )
    model = ResNetForImageClassification(config)
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)  # so that a lost statistic shows
    model.save_pretrained(tmp_path)
    return model.eval(), tmp_path


def test_public_weights_give_the_same_embeddings(saved):
    reference, folder = saved
    network = ResNet(Architecture((8, 12, 16, 20), 2)).eval()
    load_pretrained(network, str(folder))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = reference.resnet(images).pooler_output.flatten(1)
        assert torch.allclose(network(images), expected, atol=1e-5)


def test_resnet18_has_the_published_size():
    network = build_resnet("resnet-18")
    assert network.dim == 512
    assert sum(p.numel() for p in network.parameters()) == 11_176_512  # He et al.'s, less the classifier


def test_weights_of_another_architecture_are_refused(saved):
    with pytest.raises(ValueError, match="does not fit this architecture"):
        load_pretrained(build_resnet("resnet-mini"), str(saved[1]))


def test_missing_weights_are_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="there is no file"):
        load_pretrained(build_resnet("resnet-mini"), str(tmp_path / "x.safetensors"))
    with pytest.raises(ValueError, match="hf download microsoft/resnet-18"):
        load_pretrained(build_resnet("resnet-mini"), resnet.IMAGENET_WEIGHTS)
    with pytest.raises(ValueError, match="architecture='resnet-19' is not one of"):
        build_resnet("resnet-19")
