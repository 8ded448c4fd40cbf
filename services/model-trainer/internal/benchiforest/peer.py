"""Times scikit-learn's isolation forest on the rows that the Go side wrote, and prints JSON."""
import json
import struct
import sys
import time

import numpy as np
import sklearn
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

path, features, train_rows, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
with open(path, "rb") as f:
    data = np.frombuffer(f.read(), dtype="<f4").reshape(-1, features + 1)
train, test, odd = data[:train_rows, :-1], data[train_rows:, :-1], data[train_rows:, -1]
forest = IsolationForest(n_estimators=100, max_samples=256, random_state=1).fit(train)
micros = {}
for batch in (1, 100, 4096):
    rows = np.ascontiguousarray(test[:batch])
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        forest.score_samples(rows)
        best = min(best, time.perf_counter() - start)
    micros[str(batch)] = best * 1e6 / batch
print(json.dumps({
    "version": sklearn.__version__,
    "auc": roc_auc_score(odd, -forest.score_samples(test)),
    "microseconds_per_row": micros,
}))
