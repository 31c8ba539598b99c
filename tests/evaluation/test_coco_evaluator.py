import copy
import json
import math
import socket

import numpy as np
import pytest
import torch
import torch.distributed as dist
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances

from detrex.evaluation import COCOEvaluator, evaluate_detections
from detrex.evaluation.alignment import alignment_of_results
from detrex.evaluation.coco_json import load_detections
from detrex.evaluation.coco_scores import BACKENDS, SCORES, format_table
from detrex.utils.errors import InputError

CATEGORY_IDS = [2, 5, 11, 40]  # sparse, as COCO's


def _random_ground_truth(seed=0, images=25):
    rng = np.random.default_rng(seed)
    annotations = []
    for image in range(images):
        for _ in range(rng.integers(0, 12)):
            w, h = np.exp(rng.uniform(np.log(6), np.log(250), 2))  # small, medium and large
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 100 + image,
                    "category_id": int(rng.choice(CATEGORY_IDS)),
                    "bbox": [float(rng.uniform(0, 200)), float(rng.uniform(0, 200)), w, h],
                    "area": float(w * h * rng.uniform(0.5, 1)),
                    "iscrowd": int(rng.random() < 0.08),
                }
            )
    return {
        "images": [{"id": 100 + i, "width": 480, "height": 480} for i in range(images)],
        "annotations": annotations,
        "categories": [{"id": i, "name": f"class{i}"} for i in CATEGORY_IDS],
    }


def _random_detections(gt, seed=1):
    """Jittered copies of the truth, some of a wrong class, and many boxes out of thin air."""
    rng = np.random.default_rng(seed)
    detections = []
    for a in gt["annotations"]:
        for _ in range(rng.integers(0, 4)):
            x, y, w, h = a["bbox"]
            jitter = rng.normal(0, 0.08, 4) * [w, h, w, h]
            label = a["category_id"] if rng.random() < 0.8 else int(rng.choice(CATEGORY_IDS))
            box = (np.array([x, y, w, h]) + jitter).clip(0.5).tolist()
            detections.append((a["image_id"], label, box, rng.uniform(0.3, 1)))
    for image in gt["images"]:
        for _ in range(rng.integers(0, 120)):
            box = [*rng.uniform(0, 200, 2).tolist(), *rng.uniform(5, 150, 2).tolist()]
            label = int(rng.choice(CATEGORY_IDS))
            detections.append((image["id"], label, box, rng.uniform(0, 0.6)))
    return [
        # rounded: equal scores happen, and their order matters
        {"image_id": i, "category_id": c, "bbox": b, "score": round(s, 2)}
        for i, c, b, s in detections
    ]


def _pycocotools_stats(gt, detections, category=None):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    coco = COCO()
    coco.dataset = {"info": {}, **copy.deepcopy(gt)}
    coco.createIndex()
    run = COCOeval(coco, coco.loadRes(copy.deepcopy(detections)), "bbox")
    if category is not None:
        run.params.catIds = [category]
    run.evaluate()
    run.accumulate()
    run.summarize()
    return [100 * s if s > -1 else math.nan for s in run.stats]


@pytest.mark.parametrize("backend", BACKENDS)
def test_twelve_numbers_equal_pycocotools_own_summary(backend):
    gt = _random_ground_truth()
    detections = _random_detections(gt)
    expected = _pycocotools_stats(gt, detections)
    assert 10 < expected[0] < 90  # neither trivial nor empty
    scores = evaluate_detections(gt, detections, backend)
    assert list(scores) == list(SCORES)
    np.testing.assert_allclose(list(scores.values()), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_class_scores_equal_pycocotools_on_one_class(backend):
    gt = _random_ground_truth(2)
    gt["categories"].reverse()  # the order in the file must not matter
    gt["annotations"] = [a for a in gt["annotations"] if a["category_id"] != 11]
    detections = _random_detections(gt)
    scores = evaluate_detections(gt, detections, backend, per_class=True)
    for category in CATEGORY_IDS:
        expected = _pycocotools_stats(gt, detections, category)[0]
        np.testing.assert_allclose(scores[f"AP-class{category}"], expected, rtol=0, atol=1e-6)
    assert math.isnan(scores["AP-class11"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_score_as_dicts_do(backend):
    gt = _random_ground_truth(7)
    detections = _random_detections(gt)
    rows = [[d["image_id"], *d["bbox"], d["score"], d["category_id"]] for d in detections]
    expected = evaluate_detections(gt, detections, "pycocotools")
    assert evaluate_detections(gt, np.array(rows), backend) == pytest.approx(expected)
    assert evaluate_detections(gt, np.zeros((0, 7)), backend)["AP"] == 0
    rows[0][0] = 3
    with pytest.raises(InputError, match="1 unknown image_ids, not in the ground truth JSON: 3$"):
        evaluate_detections(gt, np.array(rows), backend)


def test_hand_computed_scores():
    """Two objects, one found at IoU 0.8: precision 1 up to recall 0.5 for 7 of 10 thresholds."""
    gt = {
        "images": [{"id": 7}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "bbox": [0, 0, 10, 10]},
            {"image_id": 7, "category_id": 1, "bbox": [50, 50, 10, 10]},
        ],
    }
    found = [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 10, 8], "score": 0.9}]
    scores = evaluate_detections(gt, found)
    half = 100 * 51 / 101  # recall levels 0.00 ... 0.50 of 101
    assert scores["AP50"] == pytest.approx(half)
    assert scores["AP"] == pytest.approx(half * 7 / 10)
    assert scores["AR100"] == pytest.approx(50 * 7 / 10)
    assert scores["APs"] == scores["AP"] and math.isnan(scores["APl"])
    assert "id" not in gt["annotations"][0]  # filled in a copy
    assert "area= large | maxDets=100 ] = -1.000" in format_table(scores)
    assert f"IoU=0.50      | area=   all | maxDets=100 ] = {half / 100:.3f}" in format_table(scores)


def test_max_dets_counts_the_best_boxes_only():
    gt = _random_ground_truth(3)
    detections = _random_detections(gt)
    kept = []
    for image in gt["images"]:
        for category in CATEGORY_IDS:  # COCO's limit is per image and class
            mine = [
                d
                for d in detections
                if (d["image_id"], d["category_id"]) == (image["id"], category)
            ]
            kept += sorted(mine, key=lambda d: -d["score"])[:12]
    assert len(kept) < len(detections)
    limited = evaluate_detections(gt, detections, max_dets=12)
    np.testing.assert_allclose(
        list(limited.values()), _pycocotools_stats(gt, kept), rtol=0, atol=1e-6
    )
    with pytest.raises(InputError, match="max_dets must be more than 10, got 5"):
        evaluate_detections(gt, detections, max_dets=5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_detections_score_zero(backend, caplog):
    gt = _random_ground_truth()
    scores = evaluate_detections(gt, [], backend, per_class=True)
    assert set(scores.values()) == {0.0}
    assert "no detections at all" in caplog.text


def test_falls_back_to_the_next_evaluator(monkeypatch, caplog):
    def missing():
        raise ImportError("no such module")

    gt = _random_ground_truth()
    monkeypatch.setitem(BACKENDS, "hotcoco", missing)
    with caplog.at_level("INFO"):
        evaluate_detections(gt, _random_detections(gt))
    assert "by faster-coco-eval" in caplog.text
    with pytest.raises(InputError, match="pip install hotcoco"):
        evaluate_detections(gt, [], "hotcoco")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"image_id": 3}, "1 unknown image_ids, not in the ground truth JSON: 3"),
        ({"category_id": 9}, "1 unknown category_ids, not in the ground truth JSON: 9"),
    ],
)
def test_unknown_ids_are_refused(change, message):
    gt = _random_ground_truth()
    detection = {"image_id": 100, "category_id": 2, "bbox": [0, 0, 5, 5], "score": 1.0, **change}
    with pytest.raises(InputError, match=message):
        evaluate_detections(gt, [detection])


@pytest.mark.parametrize(
    "content, message",
    [
        ('[{"image_id": 3, "category_id": 2, "bbox": [0, 0, 5, 5], "score": 1}]', "another data"),
        ('[{"image_id": 100, "category_id": 2, "bbox": [0, 0, 5], "score": 1}]', "not detections"),
        ('[{"image_id": 100, "category_id": 2, "bbox": [0, 0, 5, 5]}]', "not detections"),
        ('{"images": []}', "not detections"),
        ("[", "not detections"),
    ],
)
def test_results_that_are_none_are_refused(tmp_path, content, message):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(InputError, match=f"results.json: .*{message}"):
        load_detections(tmp_path / "results.json", _random_ground_truth())


def test_broken_ground_truth_is_named(tmp_path):
    path = tmp_path / "val.json"
    with pytest.raises(InputError, match="val.json: cannot be read"):
        evaluate_detections(path, [])
    for content in ("{", "{}", "[]"):
        path.write_text(content)
        with pytest.raises(InputError, match="val.json: not in COCO format"):
            evaluate_detections(path, [])


# --- the evaluator --------------------------------------------------------------------------


def _register(tmp_path, gt, name):
    path = tmp_path / "val.json"
    path.write_text(json.dumps(gt))
    MetadataCatalog.pop(name, None)
    MetadataCatalog.get(name).set(
        json_file=str(path),
        thing_dataset_id_to_contiguous_id={c: i for i, c in enumerate(CATEGORY_IDS)},
    )


def _feed(evaluator, detections, image_ids):
    """What a detector returns: xyxy boxes and contiguous classes."""
    for image_id in image_ids:
        mine = [d for d in detections if d["image_id"] == image_id]
        boxes = torch.tensor([d["bbox"] for d in mine], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found = Instances((480, 480), pred_boxes=Boxes(boxes))
        found.scores = torch.tensor([d["score"] for d in mine])
        found.pred_classes = torch.tensor(
            [CATEGORY_IDS.index(d["category_id"]) for d in mine], dtype=torch.int64
        )
        evaluator.process([{"image_id": image_id}], [{"instances": found}])


def test_evaluator_maps_ids_writes_results_and_scores(tmp_path):
    gt = _random_ground_truth(4)
    detections = _random_detections(gt)
    _register(tmp_path, gt, "evaluator_test")
    evaluator = COCOEvaluator(
        dataset_name=["evaluator_test"], output_dir=tmp_path / "out", per_class=True
    )
    evaluator.reset()
    ids = [image["id"] for image in gt["images"]]
    _feed(evaluator, detections, ids)
    scores = evaluator.evaluate()["bbox"]
    expected = evaluate_detections(gt, detections, "pycocotools", per_class=True)
    assert list(scores) == list(expected)
    for name in expected:  # boxes went through float32
        assert scores[name] == pytest.approx(expected[name], abs=1e-3)

    written = json.loads((tmp_path / "out/coco_instances_results.json").read_text())
    ordered = [d for i in ids for d in detections if d["image_id"] == i]
    assert [d["category_id"] for d in written] == [d["category_id"] for d in ordered]
    np.testing.assert_allclose(
        [d["bbox"] for d in written], [d["bbox"] for d in ordered], rtol=1e-4, atol=1e-3
    )
    evaluator.reset()
    assert evaluator.evaluate()["bbox"]["AP"] == 0


def test_evaluator_derives_the_mapping_where_the_metadata_has_none(tmp_path):
    gt = _random_ground_truth(5)
    _register(tmp_path, gt, "unloaded_test")
    del MetadataCatalog.get("unloaded_test").thing_dataset_id_to_contiguous_id
    evaluator = COCOEvaluator("unloaded_test")
    detections = _random_detections(gt)
    _feed(evaluator, detections, [image["id"] for image in gt["images"]])
    expected = evaluate_detections(gt, detections)["AP"]
    assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(expected, abs=1e-3)


def test_evaluator_refuses_what_it_cannot_score(tmp_path):
    with pytest.raises(InputError, match="not registered with a COCO JSON file"):
        COCOEvaluator("nobody_registered_this")
    gt = _random_ground_truth()
    _register(tmp_path, gt, "refusal_test")
    with pytest.raises(InputError, match="exactly one data set"):
        COCOEvaluator(["refusal_test", "another"])
    evaluator = COCOEvaluator("refusal_test", output_dir=tmp_path / "out")
    found = Instances((9, 9), pred_boxes=Boxes(torch.ones(1, 4)), scores=torch.ones(1))
    found.pred_classes = torch.tensor([80])
    evaluator.process([{"image_id": 100}], [{"instances": found}])
    with pytest.raises(InputError, match="predicts class 80.*has 4 classes"):
        evaluator.evaluate()
    assert not (tmp_path / "out").exists()
    (tmp_path / "val.json").unlink()
    with pytest.raises(InputError, match="no such file.*val.json"):
        COCOEvaluator("refusal_test")


def _one_rank(rank, port, folder, gt, detections):
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    MetadataCatalog.get("rank_test").set(json_file=str(folder / "val.json"))
    evaluator = COCOEvaluator("rank_test")
    ids = [image["id"] for image in gt["images"]]
    _feed(evaluator, detections, ids[:13] if rank == 0 else ids[12:])  # one image on both ranks
    scores = evaluator.evaluate()
    diagnosing = COCOEvaluator("rank_test", diagnose=True)
    _feed(diagnosing, detections, ids[:13] if rank == 0 else ids[13:])
    alignment = (diagnosing.evaluate() or {}).get("alignment")
    (folder / f"{rank}.json").write_text(json.dumps([scores, alignment]))
    dist.destroy_process_group()


def test_two_processes_score_as_one(tmp_path):
    gt = _random_ground_truth(6)
    detections = _random_detections(gt)
    (tmp_path / "val.json").write_text(json.dumps(gt))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_one_rank, (port, tmp_path, gt, detections), nprocs=2)
    scores, alignment = json.loads((tmp_path / "0.json").read_text())
    assert json.loads((tmp_path / "1.json").read_text()) == [None, None]
    for name, score in evaluate_detections(gt, detections).items():
        assert scores["bbox"][name] == pytest.approx(score, abs=1e-3, nan_ok=True)
    (tmp_path / "results.json").write_text(json.dumps(detections))
    expected = alignment_of_results(tmp_path / "results.json", tmp_path / "val.json").scalars()
    assert 0 < expected["matched_iou"] < 1
    assert alignment == pytest.approx(expected, rel=1e-3, abs=1e-3)
