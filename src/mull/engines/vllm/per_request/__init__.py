"""A λ for every request of a batch: layers that hold both ends and mix per row.

`requests.py` (a request's λ, its cache salt) and `options.py` are pure; the rest is imported by vLLM's processes
alone. From the command line to a row of a batch: `quantization.py` gives layers a method that mixes
(`layers.py`, `experts.py`), `loader.py` reads both ends into them (`ends.py`), `frontend.py` takes the λ of a request,
and `runners.py` writes it into the buffer that the layers read (`rows.py`).
"""
