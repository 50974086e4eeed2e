"""Which models no other one beats in both: keeping more and ending nearer to gold."""

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]], gold: float) -> list[int]:
    """Places of the (Retain metric, Forget metric) that no other point is at least as good as in both and better in
    one. Forgetting is best at `gold`, gold's Forget metric: a model below it forgot more than it should."""
    goods = [(retain, -abs(forget - gold)) for retain, forget in points]
    return [
        place
        for place, own in enumerate(goods)
        if not any(other != own and other[0] >= own[0] and other[1] >= own[1] for other in goods)
    ]
