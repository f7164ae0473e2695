"""The logs of a stack do not fill a disk, however long it runs."""

from services.local.supervisor import bound_logs


def test_a_log_beyond_its_bound_moves_on_and_its_writer_goes_on(tmp_path):
    (tmp_path / "sink.log").write_text("short\n")
    with (tmp_path / "edge.log").open("ab", buffering=0) as writer:
        writer.write(b"x" * 100)
        bound_logs(tmp_path, 50)
        writer.write(b"after\n")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "sink.log": b"short\n",
        "edge.log": b"after\n",
        "edge.log.1": b"x" * 100,
    }
