from detectron2.config import LazyCall as L

from detrex.config import get_config
from projects.anchor_detr.modeling import AnchorDETR, AnchorDETRTransformer

_shared = get_config("common/models/single_scale.py")

model = L(AnchorDETR)(
    **_shared.r50_dc5,
    transformer=L(AnchorDETRTransformer)(
        embed_dim=256,
        num_heads=8,
        num_encoder_layers=6,
        num_decoder_layers=6,
        dim_feedforward=1024,
        dropout=0.0,
        num_query_position=300,
        num_query_pattern=3,
        spatial_prior="learned",
        num_classes=80,
    ),
    embed_dim=256,
    criterion=_shared.focal_criterion,
    aux_loss=True,
    select_box_nums_for_evaluation=100,
    device="cuda",
)
model.backbone.dilation = False
model.criterion.num_classes = "${..transformer.num_classes}"
model.criterion.weight_dict.loss_class = 2.0
