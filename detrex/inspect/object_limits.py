"""Whether a config's model and its evaluation have room for all objects of an image."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

QUERIES = ("model.num_queries_one2one", "model.num_queries")
PROPOSALS = "model.transformer.two_stage_num_proposals"
SELECTED = "model.select_box_nums_for_evaluation"
COUNTED, COUNTED_IF_NOT_SET = "dataloader.evaluator.max_dets", 100


def limit_lines(cfg: DictConfig, most: int, of_a_class: int) -> list[str]:
    """Advice on a config with fewer queries or counted detections than an image has objects.

    Args:
        cfg: of ``load_config``.
        most: objects in the fullest image.
        of_a_class: the most objects of one class in an image.

    Returns:
        One line that says what to set, or none.
    """
    values = {key: OmegaConf.select(cfg, key) for key in (*QUERIES, SELECTED)}
    if OmegaConf.select(cfg, "dataloader.evaluator") is not None:
        values[COUNTED] = OmegaConf.select(cfg, COUNTED) or COUNTED_IF_NOT_SET
    least = {key: of_a_class if key == COUNTED else most for key in values}
    too_low = {k: n for k, n in least.items() if values[k] is not None and values[k] < n}
    if not too_low:
        return []
    proposals = OmegaConf.select(cfg, PROPOSALS)
    if QUERIES[0] in too_low and proposals is not None:  # proposals of both query groups
        too_low[PROPOSALS] = proposals + most - values[QUERIES[0]]
    present = ", ".join(f"{key}={values[key]}" for key in too_low if key in values)
    settings = " ".join(f"{key}={n}" for key, n in too_low.items())
    objects = f"up to {most} objects in an image, {of_a_class} of one class"
    return [f"! {objects}, but {present}: set {settings}"]
