"""What faiss's flat binary index takes to find all hashes near some, exactly, from files of hashes.

Prints JSON: the processor time of reading the hashes, adding them to an index and searching it, and how many pairs were
found.
"""

import json
import sys
import time

import faiss
import numpy as np


def search(hashes_path: str, probes_path: str, max_distance: int) -> dict[str, float]:
    """Search once, in one thread."""
    faiss.omp_set_num_threads(1)
    started = time.process_time()
    hashes, probes = np.load(hashes_path), np.load(probes_path)
    index = faiss.IndexBinaryFlat(64)
    index.add(hashes.view(np.uint8).reshape(-1, 8))
    # The radius itself does not count as within it.
    _, distances, _ = index.range_search(probes.view(np.uint8).reshape(-1, 8), max_distance + 1)
    return {"cpu_s": time.process_time() - started, "pairs": len(distances)}


if __name__ == "__main__":
    print(json.dumps(search(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
