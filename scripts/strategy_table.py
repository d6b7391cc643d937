"""Write the README's table of strategies from conf/strategy/*.yaml and their docstrings.

python scripts/strategy_table.py            rewrites README.md between its two markers
python scripts/strategy_table.py --check    exits with 1 if it is not up to date
"""

import inspect
import re
import sys
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.utils import get_method, instantiate
from omegaconf import DictConfig, OmegaConf

from dal.acquisition_signature import inputs_of, is_score, parts_of, wants_last_layer

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- strategies: written by scripts/strategy_table.py -->", "<!-- end -->"
NAMES = {
    "log_probs": "samples",
    "probs": "probabilities",
    "features": "features",
    "scores": "scores",
    "labelled_log_probs": "samples of the labelled",
    "labelled_probs": "probabilities of the labelled",
    "labelled_features": "features of the labelled",
    "labels": "labels",
    "costs": "costs",
    "target_log_probs": "samples of a target set",
    "head": "last layer",
    "predicted_losses": "losses predicted by a second module",
}


def main() -> None:
    """Rewrite the README, or check it."""
    readme = ROOT / "README.md"
    old = readme.read_text()
    before, _, rest = old.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        sys.exit(f"error: README.md must hold the lines {BEGIN} and {END}")
    new = f"{before}{BEGIN}\n{table()}\n{END}{after}"
    if "--check" in sys.argv[1:]:
        sys.exit(0 if new == old else "error: README.md is old; run scripts/strategy_table.py")
    readme.write_text(new)


def table() -> str:
    """One row for each strategy, then one for each named combination."""
    rows = [
        "| `strategy=` | what | kind | needs | paper | deviation |",
        "|---|---|---|---|---|---|",
    ]
    combined = []
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for file in sorted((ROOT / "conf/strategy").glob("*.yaml")):
            config = compose("config", overrides=[f"strategy={file.stem}"])
            if "_target_" in OmegaConf.load(file):
                rows.append(_row(file.stem, config))
            else:
                score = config.score._target_.rpartition(".")[2]
                base = config.strategy._target_.rpartition(".")[2]
                combined.append(f"`{file.stem}` is `{base}` over the scores of `{score}`")
    return "\n".join([*rows, "", "; ".join(combined) + "."])


def _row(name: str, config: DictConfig) -> str:
    strategy = instantiate(config.strategy, _convert_="all")
    function = get_method(config.strategy._target_)
    what = inspect.getdoc(inspect.getmodule(function)) or ""
    what = re.sub(r"^[^:.]{1,60}: ", "", what.splitlines()[0]).rstrip(".")
    what = what[:1].lower() + what[1:]
    parts = parts_of(strategy)
    kind = "score" if is_score(strategy) else "combines strategies" if parts else "selection"
    if parts:
        listed = config.strategy.strategies.values()
        needs = "its parts: " + ", ".join(
            f"`{part._target_.rpartition('.')[2]}`" for part in listed
        )
    else:
        needs = ", ".join(text for key, text in NAMES.items() if key in inputs_of(strategy))
        if wants_last_layer(strategy):
            needs = needs.replace("features", "last-layer features", 1)
        if config.get("score") is not None and "scores" in inputs_of(strategy):
            score = config.score._target_.rpartition(".")[2]
            needs = needs.replace("scores", f"scores (`{score}`)", 1)
    source, deviation = (_paragraph(function, label) for label in ("Source", "Deviation"))
    cells = [f"`{name}`", what, kind, needs or "nothing", source, _first(deviation)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _paragraph(function: object, label: str) -> str:
    """Text behind `label:` in a docstring, up to the next label or empty line."""
    text = inspect.getdoc(function) or ""
    found = re.search(rf"^{label}: (.*?)(?=\n\n|\n[A-Z]\w+:|\Z)", text, re.DOTALL | re.MULTILINE)
    return " ".join(found[1].split()).rstrip(".") if found else ""


def _first(text: str) -> str:
    """First sentence, or nothing where there is no deviation; the docstring has the rest."""
    return "" if text.startswith("none") else re.split(r"\. (?=[A-Z])", text)[0]


if __name__ == "__main__":
    main()
