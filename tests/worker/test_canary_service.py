"""Canaries of a real service: idle workers make them, and notice that a restart has changed the pictures."""

from pathlib import Path

from tests.support.service import Service, wait_until

FINISHED = (
    "SELECT worker, json_extract(environment.[values], '$.dtype'), accepted IS NULL, largest_difference "
    "FROM generation_canary JOIN generation_environment AS environment ON environment.id = environment_id "
    "WHERE finished IS NOT NULL ORDER BY generation_canary.id"
)


def test_idle_workers_notice_that_a_setting_changed_the_pictures(tmp_path: Path) -> None:
    settings = {"CANARIES": "on", "CANARY_IDLE_SECONDS": "0", "DTYPE": "float32", "WORKERS": "2"}
    with Service(tmp_path, **settings) as service:
        service.query("UPDATE generation_diffusionmodel SET enabled = is_default, max_side = 128")
        wait_until(lambda: service.query(FINISHED), "a canary")
        ((_, dtype, is_waiting, _),) = service.query(FINISHED)
        assert (dtype, is_waiting) == ("float32", 0)
        service.stop()
        service.environment["DTYPE"] = "bfloat16"
        service.start()
        wait_until(lambda: len(service.query(FINISHED)) > 1, "a canary of the other number type")
        (_, (_, dtype, is_waiting, largest)) = service.query(FINISHED)
        assert (dtype, is_waiting) == ("bfloat16", 1)
        assert largest > 0
        assert service.query("SELECT count(*) FROM generation_generation") == [(0,)]
