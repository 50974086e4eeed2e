"""Every YAML is what its script accepts, the published values are the defaults, and the real command runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from cv.leaderboard import SHOWN
from cv.methods import NAMES, face_method
from cv.settings import (
    AttackSettings,
    ComputeSettings,
    FinetuneSettings,
    ForgetSettings,
    PrepareSettings,
    PretrainSettings,
    RunSettings,
    ScoreSettings,
    read,
)

ROOT = Path(__file__).parents[2]
SCRIPTS = {
    "prepare": PrepareSettings, "pretrain": PretrainSettings, "finetune": FinetuneSettings, "forget": ForgetSettings,
    "score": ScoreSettings, "attack": AttackSettings, "run": RunSettings,
}  # fmt: skip
# epochs, rate, batch size, passes over the forget photos, batch norm: the released cv scripts
PUBLISHED = {
    "finetune": (5, 0.01, 256, 1, "train"), "neggrad": (2, 0.1, 256, 1, "eval"), "scrub": (5, 0.01, 256, 10, "eval"),
    "scrub_bio": (4, 0.2, 256, 5, "train"), "dpo": (4, 0.01, 256, 10, "eval"), "llmu": (5, 0.01, 256, 10, "eval"),
    "rmu": (3, 0.2, 256, 10, "train"), "twins": (5, 0.4, 128, 10, "train"), "sparsity": (4, 0.01, 32, 1, "train"),
    "retrain": (20, 0.1, 256, 1, "train"),
}  # fmt: skip


SOFT = """
from dataclasses import dataclass

from unlearn.method import Method, View
from unlearn.registry import register


@register("soft")
@dataclass(frozen=True)
class Soft(Method):
    share: float = 1.0
    student_views = (View("forget"), View("retain"))

    def loss(self, student, teacher, step=None):
        forget, retain = (student[name].cross_entropy() for name in ("forget", "retain"))
        return {"forget": -self.share * forget, "retain": retain}
"""


@pytest.fixture(scope="module", autouse=True)
def hydra_config():
    with initialize_config_dir(str(ROOT / "config" / "cv"), version_base=None):
        yield


def settings_of(script: str, *overrides: str):
    return read(SCRIPTS[script], OmegaConf.to_container(compose(script, list(overrides)), resolve=True))[0]


def composed(script: str, overrides: list[str]):
    return OmegaConf.to_container(compose(script, overrides), resolve=True)


@pytest.mark.parametrize("script", SCRIPTS)
def test_yaml_and_dataclass_agree(script):
    config = OmegaConf.to_container(compose(script), resolve=True)
    settings = settings_of(script)
    own = set(vars(settings))
    assert own <= set(config), f"{script}.yaml hides {own - set(config)}"


@pytest.mark.parametrize("method", NAMES)
def test_methods_have_the_published_hyper_parameters(method):
    settings = settings_of("forget", f"method={method}")
    assert settings.method == method and settings.save_dir == f"models/cv/alone/{method}"
    got = (settings.num_epochs, settings.lr, settings.batch_size, settings.oversample, settings.batchnorm)
    assert got == PUBLISHED[method]
    face_method(settings.method, settings.options)


def test_published_constants_of_the_losses():
    assert settings_of("forget", "method=rmu").options["c"] == 2.0
    llmu = settings_of("forget", "method=llmu").options
    assert (llmu["w_f"], llmu["w_r"], llmu["w_n"], llmu["answers"]) == (0.02, 0.01, 1.0, "random")
    assert face_method("sparsity", settings_of("forget", "method=sparsity").options).lambda_ == 1e-4
    assert settings_of("pretrain").margin.scale == 30.0 and settings_of("pretrain").margin.normalise


def test_forget_size_may_be_a_number():
    assert [settings_of("score", f"forget_size={size}").forget_size for size in ("5", "10", "'01'")] == [
        "05",
        "10",
        "01",
    ]


def test_a_misspelt_key_names_its_neighbour():
    with pytest.raises(ValueError, match="'oversampel'. Did you mean 'oversample'"):
        settings_of("forget", "+oversampel=3")
    with pytest.raises(ValueError, match="compute.models_per_batc"):
        settings_of("score", "+compute.models_per_batc=3")


def test_the_papers_run_prepares_the_papers_data():
    overrides = settings_of("run", "+experiment=clear").overrides
    prepare, pretrain = settings_of("prepare", *overrides["prepare"]), settings_of("pretrain", *overrides["pretrain"])
    assert (prepare.data_path, prepare.size, prepare.models, len(set(prepare.holdout))) == (
        "therem/CLEAR",
        224,
        128,
        20,
    )
    assert (pretrain.architecture, pretrain.init, pretrain.lr, pretrain.weight_decay) == (
        "resnet-18",
        "microsoft/resnet-18",
        0.1,
        5e-4,
    )
    assert (pretrain.num_epochs, pretrain.batch_size, pretrain.test_persons) == (100, 256, 200)


PRESET = {  # epochs, rate, schedule, batch, passes over F, batch norm, options: the released code's defaults
    "retrain": (20, 0.1, "cosine", 256, 1, "train", {}),
    "finetune": (5, 0.01, "constant", 256, 1, "train", {}),
    "neggrad": (2, 0.1, "constant", 256, 1, "eval", {}),
    "scrub_bio": (4, 0.2, "constant", 256, 5, "train", {}),
    "scrub": (5, 0.01, "cosine", 256, 10, "eval", {"alpha": 1.0, "beta": 1.0, "gamma": 1.0}),
    "llmu": (5, 0.01, "cosine", 256, 10, "eval", {"w_f": 0.02, "w_r": 0.01, "w_n": 1.0, "answers": "random", "k": 1}),
    "dpo": (4, 0.01, "cosine", 256, 10, "eval", {"beta": 1.0}),
    "rmu": (3, 0.2, "constant", 256, 10, "train", {"c": 2.0, "alpha": 1.0, "seed": 0}),
    "twins": (5, 0.4, "constant", 128, 10, "train", {"distance": "mse"}),
    "sparsity": (4, 0.01, "constant", 32, 1, "train", {"lambda": 1e-4, "reduction": "sum"}),
}


@pytest.mark.parametrize("method", PRESET)
def test_the_papers_run_forgets_with_the_published_values(method):
    overrides = settings_of("run", "+experiment=clear").overrides
    chosen = settings_of("forget", f"method={method}", *overrides[method])
    found = (chosen.num_epochs, chosen.lr, chosen.lr_scheduler, chosen.batch_size, chosen.oversample, chosen.batchnorm)
    assert (*found, dict(chosen.options)) == PRESET[method]
    assert (chosen.momentum, chosen.weight_decay) == (0.9, 5e-5)


def test_no_stage_of_the_papers_run_keeps_a_value_of_the_demo():
    demo, paper = settings_of("run").overrides, settings_of("run", "+experiment=clear").overrides
    assert {stage for stage, words in paper.items() if words} == {"prepare", "pretrain"}
    assert set(demo) == set(paper) >= set(PRESET)
    finetune = settings_of("finetune", *paper["finetune_models"])
    assert (finetune.num_epochs, finetune.lr, finetune.batch_size, finetune.lr_scheduler) == (20, 0.1, 256, "cosine")


def test_own_photos_and_names_reach_the_study_and_drawn_celebrities_are_announced(tmp_path, caplog):
    from cv.study import run_study
    from cv.training.fleet import Fleet
    from tests.models import picture

    for person in range(8):
        (tmp_path / "mine" / f"p{person}").mkdir(parents=True)
        for number in range(3):
            picture(10 * person + number, 16).save(tmp_path / "mine" / f"p{person}" / f"{number}.png")
    words = [f"data_path={tmp_path}/mine", "forget=[P3]", f"root={tmp_path}/study", "methods=[]"]
    words += ["overrides.prepare=['models=8','num_enroll=1','size=16']", "overrides.pretrain=['num_epochs=nothing']"]
    with pytest.raises(ValueError, match="num_epochs"):  # the people are dealt by then, and nothing has trained
        run_study(settings_of("run", *words), Fleet(ComputeSettings(device="cpu", processes=1)), composed)
    split = json.loads((tmp_path / "study" / "splits" / "split_000.json").read_text())
    assert split["forget_10"] == ["p3"] and len(split["holdout_10"]) == 1
    words[-1] = "overrides.pretrain=['test_persons=10000','size=16']"
    with pytest.raises(ValueError, match="fewer than two"), caplog.at_level("WARNING"):
        run_study(settings_of("run", *words), Fleet(ComputeSettings(device="cpu", processes=1)), composed)
    assert "drawn celebrities" in caplog.text and "overrides.pretrain" in caplog.text


def test_forgetting_by_hand_does_not_meet_the_folders_of_a_study():
    study = settings_of("run")
    assert settings_of("forget", "method=scrub").save_dir not in {f"{study.root}/{name}" for name in study.methods}


def test_the_real_command_runs_a_study_to_its_table(tmp_path):
    """With a method from outside, its settings in a folder of its own."""
    (tmp_path / "soft.py").write_text(SOFT)
    (tmp_path / "mine" / "method").mkdir(parents=True)
    published = (ROOT / "config/cv/method/neggrad.yaml").read_text()
    assert "method: neggrad" in published and "options: {}" in published
    settings = published.replace("method: neggrad", "method: soft").replace("options: {}", "options: {share: 0.5}")
    (tmp_path / "mine" / "method" / "soft.yaml").write_text(settings)
    study = [
        "--config-dir=mine",
        f"root={tmp_path}/study",
        f"leaderboard={tmp_path}/board.json",
        "methods=[retrain,neggrad,soft]",
        "plugins=[soft.py]",
        "compute.processes=2",
        "overrides.prepare=['models=8','size=16']",
        "overrides.pretrain=['size=16','num_epochs=1','batch_size=256']",
        "overrides.finetune_models=['num_epochs=1','batch_size=256']",
        "overrides.retrain=['num_epochs=1','batch_size=256']",
        "overrides.attack=['draws=20']",
    ]
    done = subprocess.run(
        [sys.executable, str(ROOT / "cv/run.py"), *study], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "board.json").read_text())
    assert [row["method"] for row in rows] == ["original", "retrain", "neggrad", "soft"]
    for row in rows:
        assert set(SHOWN) <= set(row) and set(SHOWN) <= set(row["intervals"])
        assert row["settings_hash"] and row["models"] == 8 and row["shadows_per_side"] == 2
    for picture in ("histograms.png", "roc.png"):
        with Image.open(tmp_path / "study" / picture) as drawn:
            assert drawn.format == "PNG" and drawn.convert("RGBA").getpixel((0, 0))[3] == 0, "the page shows through"
            assert drawn.width == 800, "as wide as a telephone shows it at 0.45: type of eleven points and more"
    page = (tmp_path / "board.html").read_text()
    assert page.count("data:image/png;base64,") == 2 and "neggrad" in page
    written = sorted(entry.name for entry in tmp_path.iterdir() if not entry.name.startswith("."))
    assert written == ["board.html", "board.json", "mine", "soft.py", "study"]
    assert list(record(tmp_path / "study" / "soft")["made_from"]["plugins"]) == ["soft.py"]
    assert "Retain accuracy" in done.stdout and "neggrad" in done.stdout
    noted = {name: record(tmp_path / "study" / name)["made_from"] for name in ("splits", "pretrained", "neggrad")}
    assert {name: {group: set(parts) for group, parts in one.items()} for name, one in noted.items()} == {
        "splits": {"data": {"photos"}}, "pretrained": {"data": {"photos"}},
        "neggrad": {"data": {"photos", "splits"}, "start": {"weights"}},
    }  # fmt: skip


def record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def test_what_cannot_be_attacked_or_does_not_exist_is_said_before_anything_trains(tmp_path):
    from cv.settings import ComputeSettings
    from cv.study import run_study
    from cv.training.fleet import Fleet

    def study(*overrides: str) -> list:
        settings = settings_of("run", f"root={tmp_path}/study", *overrides)
        fleet = Fleet(ComputeSettings(device="cpu", processes=1))
        return run_study(
            settings, fleet, lambda script, words: OmegaConf.to_container(compose(script, words), resolve=True)
        )

    for overrides, message in (
        (["overrides.prepare=['models=4']"], "models=4: an attack needs two shadow models on each side"),
        (["methods=[retrain,scrubs]"], "scrubs"),
        (["+overrides.scrubs=['lr=1']"], "overrides.scrubs: there is no stage and no method of that name"),
        (["methods=[rmu]", "overrides.rmu=['+options.d=1']"], "options.d"),
    ):
        with pytest.raises(Exception, match=message):
            study(*overrides)
    assert not (tmp_path / "study").exists()
