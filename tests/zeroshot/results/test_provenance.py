import subprocess

from relpretrain.zeroshot.results.provenance import commit, describe


def test_the_commit_of_a_checkout_is_told(tmp_path):
    assert commit(tmp_path) == ""

    def git(*words):
        settings = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        subprocess.run(["git", *settings, "-C", str(tmp_path), *words], check=True, capture_output=True)

    git("init")
    assert commit(tmp_path) == ""  # no commit yet
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "one")
    assert len(commit(tmp_path)) == 40
    (tmp_path / "a").write_text("2")
    assert commit(tmp_path)[40:] == "+"


def test_what_it_takes_to_make_a_report_again_is_told():
    told = describe(["zero_shot", "--seed", "3"], 3, "cpu")
    assert {"relpretrain", "torch", "python", "hardware", "device", "seed", "command"} <= set(told)
    assert (told["command"], told["seed"]) == ("zero_shot --seed 3", 3)


def test_a_report_without_a_model_names_no_device():
    assert "device" not in describe(["zero_shot"], 0)
