"""The evaluator of a training run: ids, files, processes."""

import json
import socket

import numpy as np
import pytest
import torch
import torch.distributed as dist
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances

from detrex.evaluation import COCOEvaluator, evaluate_detections
from detrex.evaluation.alignment import diagnosis_of_results
from detrex.train.group import end_process
from detrex.utils.errors import InputError
from tests.evaluation.random_coco import CATEGORY_IDS, random_detections, random_ground_truth


def _register(tmp_path, gt, name, category_ids=CATEGORY_IDS, **metadata):
    path = tmp_path / "val.json"
    path.write_text(json.dumps(gt))
    MetadataCatalog.pop(name, None)
    MetadataCatalog.get(name).set(
        json_file=str(path),
        thing_dataset_id_to_contiguous_id={c: CATEGORY_IDS.index(c) for c in category_ids},
        **metadata,
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
    gt = random_ground_truth(4)
    detections = random_detections(gt)
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


def test_detections_of_classes_that_only_other_data_sets_have_do_not_count(tmp_path):
    """A model of joint classes: this JSON has all but class 1 of them."""
    gt = random_ground_truth(4)
    detections = random_detections(gt)
    of_other, others = CATEGORY_IDS[1], [c for c in CATEGORY_IDS if c != CATEGORY_IDS[1]]
    classes = [*map(str, CATEGORY_IDS)]
    _register(tmp_path, gt, "joint_test", others, thing_classes=classes, from_config=True)
    evaluator = COCOEvaluator("joint_test", output_dir=tmp_path / "out")
    _feed(evaluator, detections, [image["id"] for image in gt["images"]])
    scores = evaluator.evaluate()["bbox"]
    scored = [d for d in detections if d["category_id"] != of_other]
    assert 0 < len(scored) < len(detections)
    assert scores["AP"] == pytest.approx(evaluate_detections(gt, scored)["AP"], abs=1e-3)
    assert scores["AP"] != pytest.approx(evaluate_detections(gt, detections)["AP"], abs=1e-3)
    written = json.loads((tmp_path / "out/coco_instances_results.json").read_text())
    assert len(written) == len(scored) and of_other not in {d["category_id"] for d in written}
    _register(tmp_path, gt, "joint_test", others[:-1], thing_classes=classes[:-1], from_config=True)
    evaluator = COCOEvaluator("joint_test")
    with pytest.raises(InputError, match=f"predicts class {len(CATEGORY_IDS) - 1}, but"):
        _feed(evaluator, [{**scored[0], "category_id": CATEGORY_IDS[-1]}], [scored[0]["image_id"]])
        evaluator.evaluate()


def test_evaluator_derives_the_mapping_where_the_metadata_has_none(tmp_path):
    gt = random_ground_truth(5)
    _register(tmp_path, gt, "unloaded_test")
    del MetadataCatalog.get("unloaded_test").thing_dataset_id_to_contiguous_id
    evaluator = COCOEvaluator("unloaded_test")
    detections = random_detections(gt)
    _feed(evaluator, detections, [image["id"] for image in gt["images"]])
    expected = evaluate_detections(gt, detections)["AP"]
    assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(expected, abs=1e-3)


def test_evaluator_refuses_what_it_cannot_score(tmp_path):
    with pytest.raises(InputError, match="not registered with a COCO JSON file"):
        COCOEvaluator("nobody_registered_this")
    gt = random_ground_truth()
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


def test_without_objects_detections_are_written_and_nothing_is_scored(tmp_path, caplog):
    gt = random_ground_truth(4)
    detections = random_detections(gt)
    ids = [image["id"] for image in gt["images"]]
    for image in gt["images"]:
        image["id"] = str(image["id"])  # as in detectron2's records, which come from the JSON
    del gt["annotations"]  # as in COCO's image_info_test-dev2017.json
    _register(tmp_path, gt, "test_images")
    evaluator = COCOEvaluator("test_images", tmp_path / "out", diagnose=True)
    _feed(evaluator, detections, ids)
    assert evaluator.evaluate() == {}
    assert f"no objects: nothing to score, {len(detections)} detections are in" in caplog.text
    written = json.loads((tmp_path / "out/coco_instances_results.json").read_text())
    assert len(written) == len(detections)


def test_what_is_not_finite_is_no_detection(tmp_path):
    _register(tmp_path, random_ground_truth(), "diverged_test")
    evaluator = COCOEvaluator("diverged_test")
    for boxes, scores in ((torch.ones(1, 4), float("nan")), (torch.full((1, 4), torch.inf), 1.0)):
        found = Instances((9, 9), pred_boxes=Boxes(boxes), scores=torch.tensor([scores]))
        found.pred_classes = torch.tensor([0])
        with pytest.raises(InputError, match="image 100: the model's .* not finite"):
            evaluator.process([{"image_id": 100}], [{"instances": found}])


def _one_rank(rank, port, folder, gt, detections):
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    MetadataCatalog.get("rank_test").set(json_file=str(folder / "val.json"))
    evaluator = COCOEvaluator("rank_test")
    ids = [image["id"] for image in gt["images"]]
    _feed(evaluator, detections, ids[:13] if rank == 0 else ids[12:])  # one image on both ranks
    scores = evaluator.evaluate()
    diagnosing = COCOEvaluator("rank_test", diagnose=True)
    _feed(diagnosing, detections, ids[:13] if rank == 0 else ids[13:])
    diagnosis = diagnosing.evaluate() or {}
    reports = [diagnosis.get(task) for task in ("alignment", "calibration")]
    (folder / f"{rank}.json").write_text(json.dumps([scores, *reports]))
    dist.destroy_process_group()
    end_process(0)


def test_two_processes_score_as_one(tmp_path):
    gt = random_ground_truth(6)
    detections = random_detections(gt)
    (tmp_path / "val.json").write_text(json.dumps(gt))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_one_rank, (port, tmp_path, gt, detections), nprocs=2)
    scores, alignment, calibration = json.loads((tmp_path / "0.json").read_text())
    assert json.loads((tmp_path / "1.json").read_text()) == [None, None, None]
    for name, score in evaluate_detections(gt, detections).items():
        assert scores["bbox"][name] == pytest.approx(score, abs=1e-3, nan_ok=True)
    (tmp_path / "results.json").write_text(json.dumps(detections))
    expected, of_scores = (
        report.scalars()
        for report in diagnosis_of_results(tmp_path / "results.json", tmp_path / "val.json")
    )
    assert 0 < expected["matched_iou"] < 1
    assert alignment == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert calibration == pytest.approx(of_scores, rel=0.02, abs=0.02)  # boxes are float32 there
    assert 0 < calibration["D-ECE"] < 1
