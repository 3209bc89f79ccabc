"""Image generation: diffusion models on torch. Independent of the web, the database and the queue."""

import os

# Threads that spin while they wait take the cores from each other: with a busy neighbour a step on two threads became
# 35 times slower. OpenMP reads this when torch is first imported, so it is set before any module here imports torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Else numpy's OpenBLAS starts a thread for each core when it is imported, beside those of torch, which does the computing.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# From 1.29 on, onnxruntime reports to Microsoft what it runs, and starts a thread for that when it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
