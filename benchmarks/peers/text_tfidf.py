"""TF-IDF over character uni- and bigrams with logistic regression (scikit-learn), the baseline a text model must beat.

`--data`: JSON {part: [[text, label], …]}, the split of the danlu run it stands beside.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import contract
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline


def main() -> None:
    parser = contract.parser(__doc__)
    parser.add_argument("--parts", nargs="+", default=["train"], help="what it learns from")
    parser.add_argument("--c", type=float, required=True, help="inverse strength of regularisation")
    arguments = parser.parse_args()
    split = json.loads(Path(arguments.data).read_text(encoding="utf-8"))
    texts, labels = zip(*[row for part in arguments.parts for row in split[part]], strict=True)
    test_texts, test_labels = zip(*split["test"], strict=True)
    started = time.perf_counter()
    model = make_pipeline(
        TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(C=arguments.c, max_iter=1000),
    )
    model.fit(texts, labels)
    seconds = time.perf_counter() - started
    contract.give_back(
        arguments,
        ("scikit-learn", "numpy"),
        accuracy=float(model.score(test_texts, test_labels)),
        train_seconds=seconds,
        learned_from=len(texts),
        test_examples=len(test_texts),
    )


if __name__ == "__main__":
    main()
