"""Two batches, and an evaluator that counts detections."""

from detectron2.evaluation import DatasetEvaluator

from tests.models import image


def two_batches(train=True):
    count = 2 if train else 1
    return [
        [image(48, 64, 2 - i, seed=2 * number + i, classes=3) for i in range(count)]
        for number in range(2)
    ]


class ClassCounter(DatasetEvaluator):
    def reset(self):
        self.count = 0

    def process(self, inputs, outputs):
        self.count += sum(len(output["instances"]) for output in outputs)

    def evaluate(self):
        return {"bbox": {"detections": float(self.count)}}
