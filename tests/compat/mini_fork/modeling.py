"""A method as people write one on upstream: every class is its own, made of detrex's layers."""

import torch
import torch.nn.functional as F
from detectron2.modeling import detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances
from scipy.optimize import linear_sum_assignment
from torch import nn

from detrex.layers import (
    FFN,
    MLP,
    BaseTransformerLayer,
    MultiheadAttention,
    MultiScaleDeformableAttention,
    TransformerLayerSequence,
    box_cxcywh_to_xyxy,
    box_xyxy_to_cxcywh,
    generalized_box_iou,
)
from detrex.modeling import SetCriterion
from detrex.utils import get_world_size, inverse_sigmoid, is_dist_avail_and_initialized


def make_layer(attentions, order, width):
    return BaseTransformerLayer(
        attn=attentions,
        ffn=FFN(embed_dim=width, feedforward_dim=2 * width, ffn_drop=0.0),
        norm=nn.LayerNorm(width),
        operation_order=order,
    )


class MiniEncoder(TransformerLayerSequence):
    def __init__(self, width=16, heads=2, num_layers=1):
        attention = MultiScaleDeformableAttention(
            embed_dim=width, num_heads=heads, num_levels=1, dropout=0.0, batch_first=True
        )
        order = ("self_attn", "norm", "ffn", "norm")
        super().__init__(make_layer(attention, order, width), num_layers=num_layers)
        self.embed_dim = self.layers[0].embed_dim
        self.hidden_dim = self.layers[0].ffns[0].feedforward_dim

    def forward(self, query, key, value, query_pos=None, **kwargs):
        for layer in self.layers:
            query = layer(query, key, value, query_pos=query_pos, **kwargs)
        return query


class MiniDecoder(TransformerLayerSequence):
    def __init__(self, width=16, heads=2, num_layers=2, return_intermediate=True):
        attentions = [
            MultiheadAttention(embed_dim=width, num_heads=heads, batch_first=True),
            MultiScaleDeformableAttention(
                embed_dim=width, num_heads=heads, num_levels=1, dropout=0.0, batch_first=True
            ),
        ]
        order = ("self_attn", "norm", "cross_attn", "norm", "ffn", "norm")
        super().__init__(make_layer(attentions, order, width), num_layers=num_layers)
        assert self.layers[0].num_attn == 2
        self.return_intermediate = return_intermediate
        self.bbox_embed = None

    def forward(self, query, key, value, query_pos=None, reference_points=None, **kwargs):
        states, references = [], []
        for number, layer in enumerate(self.layers):
            query = layer(
                query,
                key,
                value,
                query_pos=query_pos,
                reference_points=reference_points[:, :, None],
                **kwargs,
            )
            moved = self.bbox_embed[number](query)
            moved += inverse_sigmoid(reference_points)
            reference_points = moved.sigmoid().detach()
            states.append(query)
            references.append(reference_points)
        return torch.stack(states), torch.stack(references)


class MiniTransformer(nn.Module):
    """``forward`` returns a tuple."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.embed_dim = encoder.embed_dim

    def forward(self, feature, mask, position, query_embed, anchors):
        height, width = feature.shape[-2:]
        tokens, place = (x.flatten(2).transpose(1, 2) for x in (feature, position))
        inputs = dict(
            spatial_shapes=torch.as_tensor([[height, width]], device=feature.device),
            level_start_index=torch.zeros(1, dtype=torch.long, device=feature.device),
        )
        rows = (torch.arange(height) + 0.5) / height
        columns = (torch.arange(width) + 0.5) / width
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        points = torch.stack([x, y], -1).flatten(0, 1).to(feature)
        points = points[None, :, None].repeat(len(tokens), 1, 1, 1)
        padding = mask.flatten(1)
        memory = self.encoder(
            tokens,
            None,
            None,
            query_pos=place,
            query_key_padding_mask=padding,
            reference_points=points,
            **inputs,
        )
        query = torch.zeros_like(query_embed).repeat(len(tokens), 1, 1)
        first = anchors.sigmoid().repeat(len(tokens), 1, 1)
        states, references = self.decoder(
            query,
            None,
            memory,
            query_pos=query_embed.repeat(len(tokens), 1, 1),
            key_padding_mask=padding,
            reference_points=first,
            **inputs,
        )
        return states, first, references


class MiniMatcher(nn.Module):
    """A matcher that never derived from ours."""

    def __init__(self, cost_class=2.0, cost_bbox=5.0, cost_giou=2.0):
        super().__init__()
        self.costs_of = (cost_class, cost_bbox, cost_giou)

    @torch.no_grad()
    def forward(self, outputs, targets):
        found = []
        for logits, boxes, target in zip(
            outputs["pred_logits"], outputs["pred_boxes"], targets, strict=True
        ):
            l1 = torch.cdist(boxes, target["boxes"], p=1)
            corners = box_cxcywh_to_xyxy(boxes), box_cxcywh_to_xyxy(target["boxes"])
            parts = -logits.sigmoid()[:, target["labels"]], l1, -generalized_box_iou(*corners)
            cost = sum(w * part for w, part in zip(self.costs_of, parts, strict=True))
            pairs = linear_sum_assignment(cost.cpu())
            found.append(tuple(torch.as_tensor(i, dtype=torch.int64) for i in pairs))
        return found


class MiniCriterion(SetCriterion):
    """Names its losses otherwise, doubles the class loss and has a ``forward`` of its own."""

    def __init__(self, num_classes, matcher, weight_dict, losses=("labels", "boxes"), alpha=0.25):
        super().__init__(num_classes, matcher, weight_dict, losses=losses, alpha=alpha)

    def loss_labels(self, outputs, targets, indices, num_boxes):
        losses = super().loss_labels(outputs, targets, indices, num_boxes)
        losses["loss_class"] *= 2
        return losses

    def get_loss(self, loss, outputs, targets, indices, num_boxes, **kwargs):
        loss_map = {"labels": self.loss_labels, "boxes": self.loss_boxes}
        assert loss in loss_map
        return loss_map[loss](outputs, targets, indices, num_boxes, **kwargs)

    def forward(self, outputs, targets):
        num_boxes = torch.as_tensor([sum(len(t["labels"]) for t in targets)], dtype=torch.float)
        if is_dist_avail_and_initialized():
            torch.distributed.all_reduce(num_boxes)
        num_boxes = torch.clamp(num_boxes / get_world_size(), min=1).item()
        losses = {}
        last = {k: v for k, v in outputs.items() if k != "aux_outputs"}
        layers = {"": last} | {f"_{i}": aux for i, aux in enumerate(outputs["aux_outputs"])}
        for suffix, layer in layers.items():
            indices = self.matcher(layer, targets)
            for loss in self.losses:
                found = self.get_loss(loss, layer, targets, indices, num_boxes)
                losses.update({k + suffix: v for k, v in found.items()})
        return losses


class MiniDETR(nn.Module):
    def __init__(
        self,
        position_embedding,
        neck,
        transformer,
        criterion,
        num_classes=3,
        num_queries=6,
        device="cpu",
    ):
        super().__init__()
        self.backbone = nn.Conv2d(3, 8, 16, stride=16)
        self.neck, self.position_embedding = neck, position_embedding
        self.transformer, self.criterion = transformer, criterion
        width, layers = transformer.embed_dim, transformer.decoder.num_layers
        self.query_embed = nn.Embedding(num_queries, width)
        self.anchors = nn.Embedding(num_queries, 2)
        self.class_embed = nn.ModuleList(nn.Linear(width, num_classes) for _ in range(layers))
        self.size_embed = MLP(width, width, 2, 3)
        self.bbox_embed = nn.ModuleList(MLP(width, width, 2, 2) for _ in range(layers))
        self.transformer.decoder.bbox_embed = self.bbox_embed
        self.device = device
        mean, std = (torch.Tensor([value] * 3).view(3, 1, 1) for value in (120.0, 60.0))
        self.normalizer = lambda x: (x - mean) / std
        self.select_box_nums_for_evaluation = 4

    def outputs(self, batched_inputs):
        images = self.preprocess_image(batched_inputs)
        masks = images.tensor.new_ones(len(images), *images.tensor.shape[-2:])
        for number, (height, width) in enumerate(images.image_sizes):
            masks[number, :height, :width] = 0
        feature = self.neck({"res5": self.backbone(images.tensor)})[0]
        mask = F.interpolate(masks[None], size=feature.shape[-2:]).to(torch.bool).squeeze(0)
        states, first, references = self.transformer(
            feature,
            mask,
            self.position_embedding(mask),
            self.query_embed.weight,
            self.anchors.weight,
        )
        classes, coords = [], []
        for level, state in enumerate(states):
            reference = inverse_sigmoid(first if level == 0 else references[level - 1])
            centre = self.bbox_embed[level](state)
            centre += reference
            coords.append(torch.cat([centre, self.size_embed(state)], -1).sigmoid())
            classes.append(self.class_embed[level](state))
        return torch.stack(classes), torch.stack(coords), images

    def forward(self, batched_inputs):
        classes, coords, images = self.outputs(batched_inputs)
        output = {"pred_logits": classes[-1], "pred_boxes": coords[-1]}
        output["aux_outputs"] = self._set_aux_loss(classes, coords)
        if self.training:
            targets = self.prepare_targets([x["instances"].to(self.device) for x in batched_inputs])
            loss_dict = self.criterion(output, targets)
            weight_dict = self.criterion.weight_dict
            for k in loss_dict:
                if k in weight_dict:
                    loss_dict[k] *= weight_dict[k]
            return loss_dict
        results = self.inference(classes[-1], coords[-1], images.image_sizes)
        return [
            {"instances": detector_postprocess(result, x["height"], x["width"])}
            for result, x in zip(results, batched_inputs, strict=True)
        ]

    @torch.jit.unused
    def _set_aux_loss(self, outputs_class, outputs_coord):
        layers = zip(outputs_class[:-1], outputs_coord[:-1], strict=True)
        return [{"pred_logits": a, "pred_boxes": b} for a, b in layers]

    def inference(self, box_cls, box_pred, image_sizes):
        scores, index = box_cls.sigmoid().flatten(1).topk(self.select_box_nums_for_evaluation, 1)
        results = []
        for score, place, boxes, size in zip(scores, index, box_pred, image_sizes, strict=True):
            result = Instances(size)
            result.pred_boxes = Boxes(box_cxcywh_to_xyxy(boxes[place // box_cls.shape[2]]))
            result.pred_boxes.scale(scale_x=size[1], scale_y=size[0])
            result.scores, result.pred_classes = score, place % box_cls.shape[2]
            results.append(result)
        return results

    def prepare_targets(self, targets):
        new_targets = []
        for target in targets:
            h, w = target.image_size
            scale = torch.as_tensor([w, h, w, h], dtype=torch.float, device=self.device)
            boxes = box_xyxy_to_cxcywh(target.gt_boxes.tensor / scale)
            new_targets.append({"labels": target.gt_classes, "boxes": boxes})
        return new_targets

    def preprocess_image(self, batched_inputs):
        images = [self.normalizer(x["image"].to(self.device)) for x in batched_inputs]
        return ImageList.from_tensors(images)
