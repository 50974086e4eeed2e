"""One self-contained HTML file: the table, the pictures, and what the numbers can and cannot tell."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cv.table import SHOWN, number
from unlearn.atomic import write_text

_STYLE = """body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .7rem;text-align:right;
border-bottom:1px solid #ddd}
th:first-child,td:first-child{text-align:left}
td span{display:block;color:#666;font-size:.8rem}.wide{overflow-x:auto}img{max-width:100%}"""


def write_page(rows: Sequence[Mapping[str, Any]], pictures: Sequence[Path], path: Path) -> Path:
    """Writes `path`; pictures are embedded."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in SHOWN)
    body = "".join(f"<tr><td>{html.escape(row['method'])}</td>{_cells(row)}</tr>" for row in rows)
    figures = "".join(
        f'<img alt="{html.escape(picture.stem)}" src="data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}">'
        for picture in pictures
    )
    text = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Forgetting a face</title><style>{_STYLE}</style>
<h1>Forgetting a face, and attacking the forgetting</h1><p>{html.escape(reading(rows[0]))}</p>
<div class="wide"><table><tr><th>method</th>{head}</tr>{body}</table></div>{figures}</html>
"""
    write_text(path, text)
    return path


def reading(row: Mapping[str, Any]) -> str:
    """How to read the table, with the sizes that bound what it can tell."""
    return (
        f"{row['models']} models of {row['identities']} people; {row['targets']} of them are attacked, with "
        f"{row['shadows_per_side']} shadow models a side, on {row['photos']} photos of {row['people']} people. Accuracies are "
        "means over the models in percent, with 95 % intervals from drawing models; attacks are balanced accuracies (0.5: "
        "nothing to be found) with intervals from drawing models and people. Forgetting is good where forget accuracy and "
        "attacks are those of retrain, not where they are lowest. Two methods whose intervals overlap are not told apart by "
        "a study of this size."
    )


def _cells(row: Mapping[str, Any]) -> str:
    cells = [number(row, column) for column in SHOWN]
    return "".join(f"<td>{value}<span>{interval}</span></td>" for value, interval in cells)
