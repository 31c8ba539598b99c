"""Whether a config's model and its evaluation have room for all objects of an image."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

QUERIES = ("model.num_queries_one2one", "model.num_queries")
PROPOSALS = "model.transformer.two_stage_num_proposals"
SELECTED = "model.select_box_nums_for_evaluation"
COUNTED, COUNTED_IF_NOT_SET = "dataloader.evaluator.max_dets", 100


def room_settings(cfg: DictConfig, most: int, of_a_class: int) -> dict[str, int]:
    """The keys, with values, that give a config room for all objects of an image.

    Args:
        cfg: of ``load_config``.
        most: objects in the fullest image.
        of_a_class: the most objects of one class in an image.
    """
    values = _values(cfg)
    least = {key: of_a_class if key == COUNTED else most for key in values}
    too_low = {k: n for k, n in least.items() if values[k] is not None and values[k] < n}
    proposals = OmegaConf.select(cfg, PROPOSALS)
    if QUERIES[0] in too_low and proposals is not None:  # proposals of both query groups
        too_low[PROPOSALS] = proposals + most - values[QUERIES[0]]
    return too_low


def limit_lines(cfg: DictConfig, most: int, of_a_class: int) -> list[str]:
    """One line on a config without room for all objects, as :func:`room_settings`; or none."""
    settings, values = room_settings(cfg, most, of_a_class), _values(cfg)
    if not settings:
        return []
    present = ", ".join(f"{key}={values[key]}" for key in settings if key in values)
    raised = " ".join(f"{key}={n}" for key, n in settings.items())
    objects = f"up to {most} objects in an image, {of_a_class} of one class"
    return [f"! {objects}, but {present}: the config file sets {raised}"]


def _values(cfg: DictConfig) -> dict[str, int | None]:
    values = {key: OmegaConf.select(cfg, key) for key in (*QUERIES, SELECTED)}
    if OmegaConf.select(cfg, "dataloader.evaluator") is not None:
        values[COUNTED] = OmegaConf.select(cfg, COUNTED) or COUNTED_IF_NOT_SET
    return values
