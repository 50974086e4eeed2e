"""Every unlearning method, one file each. Importing this package registers them."""

from unlearn.methods import (
    dpo,
    grad_ascent,
    grad_diff,
    idk,
    kl,
    llmu,
    npo,
    retain_ft,
    rmu,
    scrub,
    scrub_bio,
    sku,
    sparsity,
    twins,
)

__all__ = [
    "dpo",
    "grad_ascent",
    "grad_diff",
    "idk",
    "kl",
    "llmu",
    "npo",
    "retain_ft",
    "rmu",
    "scrub",
    "scrub_bio",
    "sku",
    "sparsity",
    "twins",
]
