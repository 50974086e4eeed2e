"""Every loss once more, token by token in plain Python floats, written from the formulas and not from the code."""

import math

import torch


def log_probabilities(logits):
    top = max(logits)
    norm = top + math.log(sum(math.exp(x - top) for x in logits))
    return [x - norm for x in logits]


def sequence(row):
    return sum(log_probabilities(logits)[label] for logits, label in zip(row.logits, row.labels, strict=True))


def ce(rows):
    return -sum(map(sequence, rows)) / sum(len(r.labels) for r in rows)


def ce_answers(rows, k):
    items = len(rows) // k
    return sum(ce(rows[i * items : (i + 1) * items]) for i in range(k)) / k


def entropy(rows):
    terms = [-sum(math.exp(x) * x for x in log_probabilities(logits)) for r in rows for logits in r.logits]
    return sum(terms) / len(terms)


def kl(teacher_rows, student_rows):
    terms = []
    for t, s in zip(teacher_rows, student_rows, strict=True):
        for a, b in zip(t.logits, s.logits, strict=True):
            a, b = log_probabilities(a), log_probabilities(b)
            terms.append(sum(math.exp(x) * (x - y) for x, y in zip(a, b, strict=True)))
    return sum(terms) / len(terms)


def minus_log_sigmoid(x):
    return math.log(1 + math.exp(-x))


def dpo(s, t, beta):
    def margin(i):
        chosen = sequence(s["idk"][i]) - sequence(t["idk"][i])
        return chosen - (sequence(s["forget"][i]) - sequence(t["forget"][i]))

    return sum(minus_log_sigmoid(beta * margin(i)) for i in range(len(s["idk"]))) / len(s["idk"])


def npo(s, t, beta):
    ratios = [sequence(a) - sequence(b) for a, b in zip(s["forget"], t["forget"], strict=True)]
    return 2 / beta * sum(math.log(1 + math.exp(beta * r)) for r in ratios) / len(ratios)


def square(rows, target):
    """Mean over all tokens of (1/d) ||h - target||^2; target(row index, token index) -> d numbers."""
    terms = []
    for i, row in enumerate(rows):
        for j, h in enumerate(row.hidden):
            terms.append(sum((x - y) ** 2 for x, y in zip(h, target(i, j), strict=True)) / len(h))
    return sum(terms) / len(terms)


def mean_cosine(teacher_rows, student_rows):
    def mean(row):
        return [sum(column) / len(row.hidden) for column in zip(*row.hidden, strict=True)]

    def cosine(a, b):
        norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
        return sum(x * y for x, y in zip(a, b, strict=True)) / norms

    values = [cosine(mean(t), mean(s)) for t, s in zip(teacher_rows, student_rows, strict=True)]
    return sum(values) / len(values)


def rmu(s, t, c, alpha, dim=4, seed=0):
    # the draw of a vector cannot be written another way; its length and use can
    u = torch.rand(dim, generator=torch.Generator().manual_seed(seed)).tolist()
    norm = math.sqrt(sum(x * x for x in u))
    forget = square(s["forget"], lambda i, j: [c * x / norm for x in u])
    return forget + alpha * square(s["retain"], lambda i, j: t["retain"][i].hidden[j])


def token_mean(term, *views):
    """Mean over the scored tokens of term(log-probs of the student, ..., label)."""
    values = []
    for rows in zip(*views, strict=True):
        for *logits, label in zip(*(row.logits for row in rows), rows[0].labels, strict=True):
            values.append(term(*map(log_probabilities, logits), label))
    return sum(values) / len(values)


def simnpo(rows, beta, gamma):
    values = [minus_log_sigmoid(-beta / len(row.labels) * sequence(row) - gamma) for row in rows]
    return 2 / beta * sum(values) / len(values)


def undial(student_rows, teacher_rows, beta):
    def term(s, t, label):
        target = log_probabilities([x - beta * (i == label) for i, x in enumerate(t)])
        return -sum(math.exp(x) * y for x, y in zip(target, s, strict=True))

    return token_mean(term, student_rows, teacher_rows)


def tnpo(student_rows, teacher_rows, beta, alpha):
    def term(s, t, label):
        p, q = math.exp(s[label]), math.exp(t[label])
        return p**alpha * 2 * p**beta / (p**beta + q**beta) * math.log(p)

    return token_mean(term, student_rows, teacher_rows)


def satimp(rows, beta1, beta2):
    return token_mean(lambda s, y: math.exp(s[y]) ** beta1 * (1 - math.exp(s[y])) ** beta2 * s[y], rows)


def ceu(rows, skip):
    values = []
    for row in rows:
        for logits, label in list(zip(row.logits, row.labels, strict=True))[skip:]:
            q = [math.exp(x) for x in log_probabilities(logits)]
            rest = 1 - q[label]
            values.append(-sum(p / rest * math.log(p) for i, p in enumerate(q) if i != label))
    return sum(values) / len(values)


def flatness(rows):
    values = [(max(z) - sum(z) / len(z)) ** 2 for row in rows for z in row.logits]
    return sum(values) / len(values)


def mean_probabilities(rows):
    return [
        sum(math.exp(log_probabilities(x)[y]) for x, y in zip(r.logits, r.labels, strict=True)) / len(r.labels)
        for r in rows
    ]


def flat(s, g, f):
    refusals, truths = mean_probabilities(s["idk"]), mean_probabilities(s["forget"])
    return sum(f(b) - g(a) for a, b in zip(refusals, truths, strict=True)) / len(truths)


def adaptive_rmu(s, t, scale, alpha):
    u = torch.rand(4, generator=torch.Generator().manual_seed(0)).tolist()
    norm = math.sqrt(sum(x * x for x in u))

    def target(i, j):
        length = math.sqrt(sum(x * x for x in t["forget"][i].hidden[j]))
        return [scale * length * x / norm for x in u]

    return square(s["forget"], target) + alpha * square(s["retain"], lambda i, j: t["retain"][i].hidden[j])


def js(a, b):
    """Of two distributions as lists of log-probabilities."""
    total = 0.0
    for x, y in zip(a, b, strict=True):
        middle = math.log((math.exp(x) + math.exp(y)) / 2)
        total += (math.exp(x) * (x - middle) + math.exp(y) * (y - middle)) / 2
    return total


def js_to_label(s, label):
    """Of a prediction and the certainty of its label, summed over the vocabulary."""
    total = 0.0
    for i, x in enumerate(s):
        q, sure = math.exp(x), float(i == label)
        middle = (q + sure) / 2
        total += (q * math.log(q / middle) + (math.log(1 / middle) if sure else 0.0)) / 2
    return total


def altpo(s, t, beta):
    def margin(i):
        alternate = sequence(s["alternate"][i]) - sequence(t["alternate"][i])
        return alternate - (sequence(s["forget"][i]) - sequence(t["forget"][i]))

    return 2 / beta * sum(minus_log_sigmoid(beta * margin(i)) for i in range(len(s["forget"]))) / len(s["forget"])


# (name, options) -> loss of (student rows, teacher rows)
SLOW = [
    ("retain_ft", {}, lambda s, t: ce(s["retain"])),
    ("grad_ascent", {}, lambda s, t: -ce(s["forget"])),
    ("grad_diff", {"beta": 0.5}, lambda s, t: -0.5 * ce(s["forget"]) + ce(s["retain"])),
    ("grad_diff_forget_ce_retain_ce", {}, lambda s, t: -ce(s["forget"]) + ce(s["retain"])),
    ("grad_diff_forget_ce_retain_KL", {}, lambda s, t: -ce(s["forget"]) + kl(t["retain"], s["retain"])),
    ("grad_diff_forget_entropy_retain_ce", {}, lambda s, t: -entropy(s["forget"]) + ce(s["retain"])),
    ("grad_diff_forget_entropy_retain_KL", {}, lambda s, t: -entropy(s["forget"]) + kl(t["retain"], s["retain"])),
    ("grad_diff_forget_KL_retain_ce", {}, lambda s, t: -kl(t["forget"], s["forget"]) + ce(s["retain"])),
    (
        "grad_diff_forget_KL_retain_KL",
        {"beta": 2.0},
        lambda s, t: -2 * kl(t["forget"], s["forget"]) + kl(t["retain"], s["retain"]),
    ),
    ("KL", {}, lambda s, t: -ce(s["forget"]) + kl(t["retain"], s["retain"])),
    ("idk", {}, lambda s, t: ce(s["retain"]) + ce(s["idk"])),
    ("dpo", {}, lambda s, t: ce(s["idk"]) + dpo(s, t, 0.1)),
    (
        "dpo",
        {"l_task": 0.5, "l_dpo": 2.0, "beta": 0.7, "retain_weight": 3.0},
        lambda s, t: 0.5 * ce(s["idk"]) + 2 * dpo(s, t, 0.7) + 3 * ce(s["retain"]),
    ),
    ("npo", {}, lambda s, t: npo(s, t, 1.0)),
    ("npo", {"beta": 0.1, "retain_weight": 2.0}, lambda s, t: npo(s, t, 0.1) + 2 * ce(s["retain"])),
    (
        "npo",
        {"retain_weight": 2.0, "retain_loss": "KL"},
        lambda s, t: npo(s, t, 1.0) + 2 * kl(t["retain"], s["retain"]),
    ),
    (
        "scrub",
        {"alpha": 0.5, "beta": 2.0, "gamma": 3.0},
        lambda s, t: 0.5 * kl(t["retain"], s["retain"]) - 2 * kl(t["forget"], s["forget"]) + 3 * ce(s["retain"]),
    ),
    (
        "LLMU",
        {"w_f": 0.5, "w_r": 2.0, "w_n": 3.0},
        lambda s, t: -0.5 * ce(s["forget"]) + 2 * ce(s["idk"]) + 3 * kl(t["retain"], s["retain"]),
    ),
    (
        "LLMU",
        {"answers": "random", "k": 2},
        lambda s, t: -ce(s["forget"]) + ce_answers(s["random"], 2) + kl(t["retain"], s["retain"]),
    ),
    ("RMU", {}, lambda s, t: rmu(s, t, 300, 1)),
    ("RMU", {"preset": "sane", "seed": 3}, lambda s, t: rmu(s, t, 20, 100, seed=3)),
    ("RMU", {"preset": "sane", "c": 6.5}, lambda s, t: rmu(s, t, 6.5, 100)),
    ("twins", {}, lambda s, t: kl(t["augmented"], s["forget"]) + kl(t["retain"], s["retain"])),
    (
        "twins",
        {"distance": "mse"},
        lambda s, t: (
            square(s["forget"], lambda i, j: t["augmented"][i].hidden[j])
            + square(s["retain"], lambda i, j: t["retain"][i].hidden[j])
        ),
    ),
    (
        "scrub_bio",
        {},
        lambda s, t: mean_cosine(t["forget"], s["forget"]) + 1 - mean_cosine(t["retain"], s["retain"]),
    ),
    ("sparsity", {}, lambda s, t: ce(s["retain"])),
    (
        "SKU",
        {},
        lambda s, t: 2.5 * ce(s["forget"]) + ce_answers(s["random"], 3) - 0.5 * kl(t["retain"], s["retain"]),
    ),
    ("simnpo", {}, lambda s, t: simnpo(s["forget"], 4.5, 0)),
    (
        "simnpo",
        {"beta": 2.0, "gamma": 0.5, "forget_weight": 0.125, "retain_weight": 1.0},
        lambda s, t: 0.125 * simnpo(s["forget"], 2, 0.5) + ce(s["retain"]),
    ),
    ("undial", {}, lambda s, t: undial(s["forget"], t["forget"], 10)),
    (
        "undial",
        {"beta": 0.7, "retain_weight": 2.0, "retain_loss": "KL"},
        lambda s, t: undial(s["forget"], t["forget"], 0.7) + 2 * kl(t["retain"], s["retain"]),
    ),
    ("wga", {}, lambda s, t: token_mean(lambda a, y: math.exp(a[y]) * a[y], s["forget"])),
    (
        "wga",
        {"beta": 2.5, "forget_weight": 3.0, "retain_weight": 1.0},
        lambda s, t: 3 * token_mean(lambda a, y: math.exp(a[y]) ** 2.5 * a[y], s["forget"]) + ce(s["retain"]),
    ),
    ("tnpo", {}, lambda s, t: tnpo(s["forget"], t["forget"], 4, 0)),
    ("tnpo", {"beta": 0.5, "alpha": 1.5}, lambda s, t: tnpo(s["forget"], t["forget"], 0.5, 1.5)),
    ("satimp", {}, lambda s, t: satimp(s["forget"], 5, 0.1)),
    (
        "satimp",
        {"beta1": 1.0, "beta2": 1.0, "forget_weight": 10.0, "retain_weight": 1.0},
        lambda s, t: 10 * satimp(s["forget"], 1, 1) + ce(s["retain"]),
    ),
    ("ceu", {}, lambda s, t: ceu(s["forget"], 1)),
    ("ceu", {"skip": 0, "retain_weight": 0.5}, lambda s, t: ceu(s["forget"], 0) + 0.5 * ce(s["retain"])),
    ("flat", {}, lambda s, t: flat(s, lambda v: math.tanh(v) / 2, lambda v: math.tanh(v) / 2)),
    ("flat", {"divergence": "KL"}, lambda s, t: flat(s, lambda v: v, lambda v: math.exp(v - 1))),
    (
        "flat",
        {"divergence": "JS"},
        lambda s, t: flat(
            s,
            lambda v: math.log(2) - math.log(1 + math.exp(-v)),
            lambda v: v + math.log(1 + math.exp(-v)) - math.log(2),
        ),
    ),
    ("flat", {"divergence": "Pearson"}, lambda s, t: flat(s, lambda v: v, lambda v: v * v / 4 + v)),
    ("task_vector", {}, lambda s, t: ce(s["forget"])),
    ("project", {}, lambda s, t: -ce(s["forget"]) + ce(s["retain"])),
    ("salun", {}, lambda s, t: ce(s["random"]) + ce(s["retain"])),
    ("mmunlearner", {}, lambda s, t: -ce(s["forget"]) + ce(s["retain"])),
    ("pdu", {}, lambda s, t: flatness(s["forget"]) + ce(s["retain"])),
    ("sam", {}, lambda s, t: npo(s, t, 0.1) + ce(s["retain"])),
    ("dual", {}, lambda s, t: -ce(s["forget"]) + ce(s["retain"])),
    ("RMU", {"target": "norm", "preset": "sane"}, lambda s, t: adaptive_rmu(s, t, 5, 100)),
    ("RMU", {"target": "norm", "scale": 2.0, "alpha": 3.0}, lambda s, t: adaptive_rmu(s, t, 2, 3)),
    ("vgid", {}, lambda s, t: kl(t["noised"], s["forget"]) + kl(t["retain"], s["retain"])),
    (
        "vgid",
        {"alpha": 2.0, "beta": 0.5, "prefix": ""},
        lambda s, t: 2 * kl(t["noised"], s["forget"]) + 0.5 * kl(t["retain"], s["retain"]),
    ),
    (
        "jensun",
        {},
        lambda s, t: (
            token_mean(js_to_label, s["relabelled"]) + token_mean(lambda a, b, _: js(a, b), s["retain"], t["retain"])
        ),
    ),
    (
        "jensun",
        {"forget_weight": 3.0, "retain_weight": 0.0},
        lambda s, t: 3 * token_mean(js_to_label, s["relabelled"]),
    ),
    ("altpo", {}, lambda s, t: altpo(s, t, 0.1) + ce(s["retain"])),
    ("altpo", {"beta": 0.7, "retain_weight": 0.0}, lambda s, t: altpo(s, t, 0.7)),
    ("eco_ft", {"beta": 0.5}, lambda s, t: 0.5 * ce(s["corrupted"]) + ce(s["retain"])),
    ("pava", {}, lambda s, t: npo(s, t, 0.1) + 3 * ce(s["anchor"])),
    ("pava", {"weight": 0.5, "beta": 1.0}, lambda s, t: npo(s, t, 1.0) + 0.5 * ce(s["anchor"])),
]
