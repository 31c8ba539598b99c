"""Parameter names of the methods' official repositories, and ours.

A table maps the beginning of an official name to the beginning of ours, or to several where a model
registers a module twice; ``#`` is a number that both names have, ``{layers}`` the number of decoder
layers. Neck and backbone need more than a table: see :mod:`detrex.checkpoint.convert`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Rules = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Layout:
    """The names of one repository.

    Attributes:
        marks: modules that a layout after it in ``LAYOUTS`` does not have together.
        rules: official module -> ours.
        class_agnostic_proposals: two-stage proposals are ranked by row 0 of the class head.
        note: overrides with which these weights score as published.
        spare_label: our label embedding, too, has a last row that no class has.
    """

    marks: tuple[str, ...]
    rules: Rules
    class_agnostic_proposals: bool = False
    note: str = ""
    spare_label: bool = False


def _layers(stack: str, **modules: str) -> Rules:
    """Return the rules of a stack's layers: official module -> ours, "a|b" for two of ours.

    Every layer has an FFN. ``__`` in an official name is a point.
    """
    modules = {"linear1": "ffns.0.layers.0.0", "linear2": "ffns.0.layers.1", **modules}
    prefix = f"transformer.{stack}.layers.#"
    return {
        f"{prefix}.{official.replace('__', '.')}": tuple(f"{prefix}.{o}" for o in ours.split("|"))
        for official, ours in modules.items()
    }


def _same(names: Iterable[str]) -> Rules:
    return {name: (name,) for name in names}


_HEADS = _same(("class_embed", "bbox_embed"))
_SINGLE_SCALE = {
    **_HEADS,
    "input_proj": ("input_proj",),
    "transformer.decoder.norm": ("transformer.decoder.post_norm_layer",),
}
_NORMS = {f"norm{i + 1}": f"norms.{i}" for i in range(3)}
_ENCODER_NORMS = {"norm1": "norms.0", "norm2": "norms.1"}
_DENSE_ENCODER = _layers("encoder", self_attn="attentions.0.attn", **_ENCODER_NORMS)
_PRELU = {"activation": "ffns.0.activation|ffns.0.layers.0.1"}

_DETR = {
    **_SINGLE_SCALE,
    **_DENSE_ENCODER,
    **_layers(
        "decoder", self_attn="attentions.0.attn", multihead_attn="attentions.1.attn", **_NORMS
    ),
    **_same(("query_embed",)),
}
_PROJECTIONS = {
    "qcontent_proj": "query_content_proj",
    "qpos_proj": "query_pos_proj",
    "kcontent_proj": "key_content_proj",
    "kpos_proj": "key_pos_proj",
    "v_proj": "value_proj",
}
_CONDITIONAL = {
    **_SINGLE_SCALE,
    **_DENSE_ENCODER,
    **_layers(
        "decoder",
        **{f"sa_{official}": f"attentions.0.{ours}" for official, ours in _PROJECTIONS.items()},
        **{f"ca_{official}": f"attentions.1.{ours}" for official, ours in _PROJECTIONS.items()},
        ca_qpos_sine_proj="attentions.1.query_pos_sine_proj",
        self_attn__out_proj="attentions.0.out_proj",
        cross_attn__out_proj="attentions.1.out_proj",
        **_NORMS,
    ),
    **_same(f"transformer.decoder.{part}" for part in ("query_scale", "ref_point_head")),
    **_same(("query_embed",)),
}
_DAB = {
    **_CONDITIONAL,
    **_layers("encoder", **_PRELU),
    **_layers("decoder", **_PRELU),
    **_same(f"transformer.{part}" for part in ("encoder.query_scale", "patterns")),
    **_same(f"transformer.decoder.{part}" for part in ("ref_anchor_head", "bbox_embed")),
    "refpoint_embed": ("anchor_box_embed",),
}
_DENOISING = {"label_enc": ("denoising_generator.label_encoder",)}

# Official norms are numbered as they are built, ours as they are used: self-attention first.
_DEFORMABLE_DECODER = {
    "self_attn": "attentions.0.attn",
    "cross_attn": "attentions.1",
    "norm1": "norms.1",
    "norm2": "norms.0",
    "norm3": "norms.2",
}
_DEFORMABLE = {
    **_HEADS,
    **_same(f"transformer.decoder.{head}" for head in _HEADS),
    **_layers("encoder", self_attn="attentions.0", **_ENCODER_NORMS),
    **_layers("decoder", **_DEFORMABLE_DECODER),
    "transformer.level_embed": ("transformer.level_embeds",),
    "query_embed": ("query_embedding",),
    **_same(f"transformer.{part}" for part in ("reference_points", "pos_trans", "pos_trans_norm")),
    **_same(f"transformer.{part}" for part in ("enc_output", "enc_output_norm")),
}
_DAB_DEFORMABLE = {
    **_DEFORMABLE,
    **_same(("tgt_embed", "refpoint_embed")),
    **_same(f"transformer.decoder.{part}" for part in ("query_scale", "ref_point_head")),
}
_DINO = {
    **_DEFORMABLE,
    **_same(f"transformer.decoder.{part}" for part in ("norm", "ref_point_head")),
    **_same(("transformer.tgt_embed", "label_enc")),
    **{
        f"transformer.enc_out_{head}": (
            f"{head}.{{layers}}",
            f"transformer.decoder.{head}.{{layers}}",
        )
        for head in _HEADS
    },
}

_RELATION_DETR = {
    **_layers("encoder", self_attn="attentions.0", **_ENCODER_NORMS),
    **_layers("decoder", **_DEFORMABLE_DECODER),
    **_same(
        f"transformer.{part}"
        for part in ("level_embeds", "enc_output", "enc_output_norm", "tgt_embed")
    ),
    **_same(("transformer.encoder.memory_fusion",)),
    **_same(
        f"transformer.decoder.{part}"
        for part in ("norm", "ref_point_head", "query_scale", "position_relation_embedding")
    ),
    "denoising_generator.label_encoder": ("label_enc",),
    "transformer.hybrid_tgt_embed": ("hybrid_tgt_embed",),
}
for _kind in ("class", "bbox"):
    _ours = f"{_kind}_embed", f"transformer.decoder.{_kind}_embed"
    _RELATION_DETR[f"transformer.decoder.{_kind}_head"] = _ours
    _RELATION_DETR[f"transformer.encoder_{_kind}_head"] = tuple(f"{o}.{{layers}}" for o in _ours)
    _RELATION_DETR[f"transformer.hybrid_{_kind}_head"] = (f"hybrid_{_kind}_head",)
for _i, _conv in enumerate(("convs.0", "convs.1", "convs.2", "extra_convs.0")):
    _RELATION_DETR[f"neck.convs.{_i}.0"] = (f"neck.{_conv}.conv",)
    _RELATION_DETR[f"neck.convs.{_i}.1"] = (f"neck.{_conv}.norm",)

LAYOUTS = {
    "relation_detr": Layout(("transformer.encoder_class_head",), _RELATION_DETR),
    "dino": Layout(
        ("transformer.enc_out_class_embed",),
        _DINO,
        note="model.position_embedding.temperature=20 model.position_embedding.offset=0.0",
    ),
    "dac_detr": Layout(
        ("transformer.level_embed", "label_enc", "query_embed"),
        {**_DEFORMABLE, **_same(("label_enc",))},
        class_agnostic_proposals=True,
        spare_label=True,
    ),
    "dn_deformable_detr": Layout(
        ("transformer.level_embed", "label_enc"), {**_DAB_DEFORMABLE, **_DENOISING}
    ),
    "dab_deformable_detr": Layout(("transformer.level_embed", "refpoint_embed"), _DAB_DEFORMABLE),
    "deformable_detr": Layout(("transformer.level_embed",), _DEFORMABLE, True),
    "dn_detr": Layout(("refpoint_embed", "label_enc"), {**_DAB, **_DENOISING}),
    "dab_detr": Layout(("refpoint_embed",), _DAB),
    "conditional_detr": Layout(("transformer.decoder.ref_point_head",), _CONDITIONAL),
    "detr": Layout(("transformer.decoder.layers.0.multihead_attn",), _DETR),
}
# H-Deformable-DETR's repository is built on Deformable DETR's and keeps its names.
LAYOUTS["h_deformable_detr"] = LAYOUTS["deformable_detr"]
# Layouts that detrex.checkpoint.convert reads in other ways.
RESNET = "torchvision"  # and timm's ResNets, which have the same names
RT_DETR = "rt_detr"  # of the transformers library, also v2
RT_DETR_REPOSITORY = "rt_detr_repository"  # also v2, and DEIM on it
D_FINE = "d_fine"  # of its repository, and of DEIM's
D_FINE_TRANSFORMERS = "d_fine_transformers"
LW_DETR = "lw_detr"  # of its repository, and of RF-DETR's
LW_DETR_TRANSFORMERS = "lw_detr_transformers"  # and RF-DETR's
HGNETV2 = "hgnetv2"  # timm's, and what D-FINE's repository starts from
BACKBONES = (RESNET, HGNETV2)
NAMES = (
    *LAYOUTS,
    RESNET,
    RT_DETR,
    RT_DETR_REPOSITORY,
    D_FINE,
    D_FINE_TRANSFORMERS,
    LW_DETR,
    LW_DETR_TRANSFORMERS,
    HGNETV2,
)
