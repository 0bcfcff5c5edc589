"""Progress of a long prompt of a real model, which runs in a child process."""

from pathlib import Path

import pytest

from tests.helpers.server import MODEL, running


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_prefill_of_four_thousand_tokens_is_reported(smollm2_gguf: str, tmp_path: Path) -> None:
    with running(tmp_path, OMP_WAIT_POLICY="passive") as server:
        server.create(MODEL, Path(smollm2_gguf).read_bytes())
        records = server.post(
            "/api/generate",
            {
                "model": MODEL,
                "prompt": "The bee visits another flower. " * 700,
                "raw": True,
                "progress": True,
                "options": {"num_ctx": 8192, "num_predict": 2},
            },
        ).records
    *others, last = records
    total = last["prompt_eval_count"]
    assert total > 4000
    reports = [record["prefill"] for record in others if "prefill" in record]
    done = [report["done"] for report in reports]
    assert len(done) > 1
    assert done == sorted(set(done))
    assert done[-1] < total
    assert [report["percent"] for report in reports] == [100 * count // total for count in done]
    assert "prefill" not in others[-1]
