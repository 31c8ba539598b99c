"""Random ground truth and detections in COCO's format."""

import numpy as np

CATEGORY_IDS = [2, 5, 11, 40]  # sparse, as COCO's


def random_ground_truth(seed=0, images=25):
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


def random_detections(gt, seed=1):
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
