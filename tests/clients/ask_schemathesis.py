"""schemathesis: random and malformed requests made of the server's own OpenAPI document.

Fails for a status of 500 and above, a reply that is not as documented, and a wrong body that is answered.
MULL_REQUESTS says about how many requests there are, by default 10,000.
"""

import os
import subprocess
import sys
from pathlib import Path

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
]
WITH_INPUT = 4
"""Routes of which there are as many requests as one likes; of the others there is one."""

each = int(os.environ.get("MULL_REQUESTS", "10000")) // WITH_INPUT
address = f"{sys.argv[1].removesuffix('/v1')}/openapi.json"
command = [Path(sys.executable).with_name("schemathesis"), "run", address, "--max-examples", str(each)]
command += ["--checks", ",".join(CHECKS), "--continue-on-failure", "--seed", "1", "--no-color"]
command += ["--phases", "coverage,fuzzing", "--suppress-health-check", "all", "--generation-database", "none"]
sys.exit(subprocess.run(command).returncode)
