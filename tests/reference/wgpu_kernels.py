"""The kernels that the WGPU tests take without trying others (tests/tests/all/backends/kernels.rs says why).

Run:   cargo test -p burn-ad-tests backends::wgpu && python tests/reference/wgpu_kernels.py
       (reads tests/target/autotune, writes tests/fixtures/wgpu/autotune, about 100 KB; again until nothing is new)
Made with: Python 3.11, cubecl 0.10.0, Mesa's lavapipe

CubeCL keeps the answers of its autotuning in one file a kind of kernel, a JSON object a line: the shape asked for, a
checksum of the candidates' names, the fastest candidate and all timings. Here the fastest is always candidate 0, the plain
kernel that CubeCL falls back to, and the timings are left out. A shape that is not listed is tuned, which is only slow.
"""

import json
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
TUNED, FIXTURES = TESTS / "target" / "autotune", TESTS / "fixtures" / "wgpu" / "autotune"

for path in sorted(TUNED.rglob("*.json.log")):
    answers = {}
    for line in path.read_text().splitlines():
        key = json.loads(line)["key"]
        answer = {"key": key, "value": {"fastest_index": 0, "results": []}}
        answers[json.dumps(key, sort_keys=True)] = json.dumps(answer, separators=(",", ":"))
    target = FIXTURES / path.relative_to(TUNED)
    old = len(target.read_text().splitlines()) if target.exists() else 0
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(line + "\n" for line in answers.values()))
    print(f"{target.name}: {len(answers)} shapes, {len(answers) - old} new")
