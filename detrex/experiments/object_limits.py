"""Whether a config's model looks for, and its evaluation counts, all objects of an image."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

QUERIES = ("model.num_queries_one2one", "model.num_queries")
PROPOSALS = "model.transformer.two_stage_num_proposals"
SELECTED = "model.select_box_nums_for_evaluation"
COUNTED, COUNTED_IF_NOT_SET = "dataloader.evaluator.max_dets", 100


def limit_lines(cfg: DictConfig, most: int, of_a_class: int) -> list[str]:
    """What to set in a config whose model or evaluation stops before all objects of an image, if
    it does.

    Args:
        cfg: of ``load_config``.
        most: objects in the fullest image.
        of_a_class: the most objects of one class in an image.
    """
    now = {key: OmegaConf.select(cfg, key) for key in (*QUERIES, SELECTED)}
    if OmegaConf.select(cfg, "dataloader.evaluator") is not None:
        now[COUNTED] = OmegaConf.select(cfg, COUNTED) or COUNTED_IF_NOT_SET
    least = {key: of_a_class if key == COUNTED else most for key in now}
    told = {key: n for key, n in least.items() if now[key] is not None and now[key] < n}
    if not told:
        return []
    proposals = OmegaConf.select(cfg, PROPOSALS)
    if QUERIES[0] in told and proposals is not None:  # the two groups together
        told[PROPOSALS] = proposals + most - now[QUERIES[0]]
    has = ", ".join(f"{key}={now[key]}" for key in told if key in now)
    settings = " ".join(f"{key}={n}" for key, n in told.items())
    there = f"up to {most} objects in an image, {of_a_class} of one class"
    return [f"! {there}, but {has}: set {settings}"]
