"""The teacher's sequence scores, computed once for each row and kept: all that NPO and DPO ask of it.

A row's key is a digest of everything the teacher reads: its own token ids without padding, where its answer starts, and
its picture's tensors (`collator.row_key`). A question asked in other words, another refusal or another picture is
another key, so nothing can be served that the teacher would not have said. Checkpoints hold the scores: computed anew
in another batch, with other padding, they would differ in the last bit, and a resumed run would not end at the same
weights.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from unlearn.data.samples import KEY_BYTES
from unlearn.scoring import Scored

FILE = "teacher_scores.safetensors"  # in a checkpoint
Keys = Sequence[bytes]


class TeacherCache:
    """`score(views)` in place of the teacher's forward. A batch whose rows are all known costs no forward.

    With several processes each keeps the same scores: keys are exchanged on the CPU, scores on the device, so that all
        of
    them take the same decision at each step (a sharded teacher's forward is a collective) and a row is scored on one of
    them only. Rows per step are alike on every rank (EpochSampler).
    """

    def __init__(self, forward: Callable[[Mapping[Any, Any], Any], dict[Any, Scored]]) -> None:
        self.forward = forward
        self.scores: dict[
            bytes, tuple[Tensor, Tensor]
        ] = {}  # key -> sum of log-probabilities, answer length; on the device
        self._group: Any = None

    def score(self, views: Mapping[Any, Any], through: Any = None) -> dict[Any, Scored]:
        """One `Scored.from_logps` per view, rows in the view's order. `through`: see Teacher.score."""
        everyone = self._exchange([key for rows in views.values() for key in rows["keys"]])
        if any(key not in self.scores for key in everyone):
            scored = self.forward(views, through)
            sums = _gathered(torch.cat([view.sequence_logps() for view in scored.values()]))
            lengths = _gathered(torch.cat([view.lengths() for view in scored.values()]))
            for key, *entry in zip(everyone, sums.unbind(), lengths.unbind(), strict=True):
                self.scores.setdefault(key, (entry[0], entry[1]))  # the first score stays: a row has one, on every rank
        return {name: self._view(rows["keys"]) for name, rows in views.items()}

    def save(self, folder: Path) -> None:
        """Writes the scores into a checkpoint."""
        if self.scores:
            sums, lengths = (torch.stack(column).cpu() for column in zip(*self.scores.values(), strict=True))
            keys = torch.frombuffer(bytearray(b"".join(self.scores)), dtype=torch.uint8).view(-1, KEY_BYTES)
            save_file({"keys": keys, "sums": sums, "lengths": lengths}, folder / FILE)

    def load(self, folder: Path, device: torch.device) -> None:
        """Takes the scores of a checkpoint, if it has any."""
        if (folder / FILE).is_file():
            saved = load_file(folder / FILE)
            columns = zip(*(saved[name].to(device).unbind() for name in ("sums", "lengths")), strict=True)
            self.scores = dict(zip((key.numpy().tobytes() for key in saved["keys"]), columns, strict=True))

    def _view(self, keys: Keys) -> Scored:
        sums, lengths = zip(*(self.scores[key] for key in keys), strict=True)
        return Scored.from_logps(torch.stack(sums), torch.stack(lengths))

    def _exchange(self, keys: Keys) -> Keys:
        """The keys of all ranks, rank after rank."""
        if not _several():
            return keys
        if self._group is None:
            self._group = dist.new_group(
                backend="gloo"
            )  # a key read back from a device would make every step wait for it
        mine = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8)
        parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, mine, group=self._group)
        joined = torch.cat(parts).numpy().tobytes()
        return [joined[start : start + KEY_BYTES] for start in range(0, len(joined), KEY_BYTES)]


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _gathered(values: Tensor) -> Tensor:
    """[B] of every rank, joined in rank order."""
    if not _several():
        return values
    parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)
