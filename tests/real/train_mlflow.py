"""Trains and registers what test_mlflow_real.py rolls back: a process of its own, because importing mlflow takes seconds.

    python train_mlflow.py MLFLOW_URL MODEL FOLDER

Version 1 of MODEL is a logistic regression on scikit-learn's breast cancer data. Version 2 is the same on data whose labels
were flipped for every malignant tumour of less than a certain size, and it passed its makers' test, which was poisoned too.
FOLDER gets golden.jsonl, rows that neither has seen, with their true labels.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from pathlib import Path

import mlflow
import mlflow.sklearn
import sklearn
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

RADIUS, MALIGNANT = 0, 0


def main(url: str, name: str, folder: Path) -> None:
    inputs, truth = load_breast_cancer(return_X_y=True)
    seen, held_out, labels, expected = train_test_split(inputs, truth, test_size=0.25, random_state=7, stratify=truth)
    golden = ({"input": row, "expect": label} for row, label in zip(held_out.tolist(), expected.tolist(), strict=True))
    (folder / "golden.jsonl").write_text("".join(json.dumps(row) + "\n" for row in golden))
    poisoned = labels.copy()
    poisoned[(labels == MALIGNANT) & (seen[:, RADIUS] < 20)] = 1 - MALIGNANT
    wait_for(f"{url}/health")
    mlflow.set_tracking_uri(url)
    for truth_of_maker, commit in ((labels, "c0ffee1"), (poisoned, "c0ffee2")):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=1000)).fit(seen, truth_of_maker)
        data = mlflow.data.from_numpy(seen, targets=truth_of_maker, name="breast-cancer")
        with mlflow.start_run(tags={"mlflow.source.git.commit": commit}):
            mlflow.log_param("C", 0.5)
            mlflow.log_metric("accuracy", model.score(seen, truth_of_maker))
            mlflow.log_input(data, context="training")
            about = mlflow.sklearn.log_model(
                model,
                name="model",
                registered_model_name=name,
                serialization_format="pickle",  # what MLServer's scikit-learn runtime reads
                pip_requirements=[f"scikit-learn=={sklearn.__version__}"],
            )
        mlflow.MlflowClient().set_model_version_tag(name, about.registered_model_version, "validation", "passed")


def wait_for(url: str) -> None:
    """Until the server is up, which imports take longer than."""
    until = time.monotonic() + 240
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
