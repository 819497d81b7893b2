"""Write the golden bundles of the format that this danlu writes: `python tests/exporting/write_golden.py`.

Run it once for a new format; those of older formats are never written again.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"
TEXTS = ["很快，好吃", "太慢，难吃", "鑫", "味道" * 40, "ok"]
SMALL = {
    "images": {"model.name": "mlp", "model.widths": [12], "data.image_size": 16},
    "texts": {"model.name": "ngrams", "model.buckets": 64},
}


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import danlu
    from danlu.base.bundle import FORMAT, open_bundle
    from danlu.prediction.predictor import load_bundle
    from pictures import write_pictures, write_reviews

    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        pictures = write_pictures(Path("pictures"))
        data = {"images": pictures, "texts": write_reviews(Path("reviews.csv"), 200)}
        for kind, settings in SMALL.items():
            home = GOLDEN / f"format-{FORMAT}-{kind}"
            home.mkdir()
            run = danlu.train(data[kind], {"training.epochs": 20, **settings}, name=kind)
            danlu.evaluate(run)
            bundle = open_bundle(danlu.export(run, "int8", out=home / "bundle", max_drop=0.5))
            if kind == "images":
                (home / "inputs").mkdir()
                for path in sorted(pictures.rglob("*.jpg"))[::30]:
                    shutil.copy(path, home / "inputs" / f"{path.parent.name}-{path.name}")
            items = TEXTS if kind == "texts" else sorted((home / "inputs").iterdir())
            answers = {
                variant: [answer.probabilities for answer in load_bundle(bundle, variant).predict(items)]
                for variant in bundle.variants
            }
            (home / "answers.json").write_text(json.dumps(answers, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
