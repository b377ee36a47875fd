"""Fits what reads a representation: the ranking, the chances of a good answer, the domain, the tokens of an answer.

All are linear in what they read, so the graph is a handful of products, and a score can be taken apart by feature.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]  # no stubs; it comes with scikit-learn
from sklearn.linear_model import LogisticRegression, Ridge

from gateway.classify.features import FEATURE_NAMES
from gateway.core.judgement import DOMAINS
from router_models.encoder import Floats32
from router_models.odds import sigmoid
from router_models.space import to_int8

Floats = NDArray[np.float64]

CHANCE_C = 1.0
FRONTIER_LEAD = 1.0
WEAK, STRONG, FRONTIER = 0, 1, 2
"""Columns of the chances."""
LENGTH = FEATURE_NAMES.index("chars")
SMALLEST = 1e-9
# A score that falls with the rank would turn the order round.
MIN_SLOPE = 1e-2
TOKENS_RIDGE = 30.0
DOMAIN_C = 10.0
DOMAIN_ITERATIONS = 200
# How much a word's own vote weighs beside its vector: accuracy on MMLU-Pro's subjects, three folds, 0.784 by vectors
# alone, 0.838 by votes alone, 0.840 together; vectors carry what words never seen in training mean.
VOTE = 2.0


class Linear(msgspec.Struct, frozen=True):
    """Weights (R, outputs) and offsets (outputs,)."""

    weights: Floats
    offset: Floats

    def apply(self, read: Floats32) -> Floats:
        """Return (N, outputs)."""
        return np.asarray(read @ self.weights + self.offset)


class DomainHead(msgspec.Struct, frozen=True):
    """Logits of the domains: votes of a text's words, int8 (V, domains) with a scale a column, and of its vector."""

    table: NDArray[np.int8]
    scale: Floats32
    of_vector: Linear


class Recipe(msgspec.Struct, frozen=True):
    """How the ranking is made of its parts, each counted in standard deviations. What was tried is in EXPERIMENTS.md.

    `strength`: ridge's, of the part fitted to what the strong side was measured to gain. `chances`: the weight of
    what a frontier model's chance of a good answer is over the weak one's. `length`: the weight of the stem's length,
    the one measure that helps a little on nearly every benchmark; ridge alone would shrink it where data are few.
    """

    strength: float = 300.0
    chances: float = 1.0
    length: float = 0.3


class Rank(msgspec.Struct, frozen=True):
    """The ranking: a linear part (R, 1), and the weight of the frontier's chance less the weak side's."""

    linear: Linear
    chances: float

    def apply(self, read: Floats32, chances: Floats) -> Floats:
        """Return the rank of each row, (N,); `chances` are (N, 3): weak, strong, frontier."""
        return np.asarray(self.linear.apply(read)[:, 0] + self.chances * (chances[:, FRONTIER] - chances[:, WEAK]))

    def scaled(self, slope: float, offset: float) -> "Rank":
        """Return slope * rank + offset."""
        linear = Linear(self.linear.weights * slope, self.linear.offset * slope + offset)
        return Rank(linear, self.chances * slope)


def fit_rank(read: Floats32, gap: Floats, chances: Floats, weight: Floats, recipe: Recipe) -> Rank:
    """Fit the ranking, given the chances that `tell_chances` tells of the same rows."""
    weights = _fit_ridge(read, gap, weight, recipe.strength)
    weights[LENGTH] += recipe.length / max(float(read[:, LENGTH].std()), SMALLEST)
    gained = chances[:, FRONTIER] - chances[:, WEAK]
    of_chances = recipe.chances / max(float(gained.std()), SMALLEST)
    offset = np.array([-float(read.mean(axis=0) @ weights)])
    return Rank(Linear(weights[:, np.newaxis], offset), of_chances)


def _fit_ridge(read: Floats32, target: Floats, weight: Floats, strength: float) -> Floats:
    fitted = np.asarray(Ridge(strength).fit(read, target, sample_weight=weight).coef_, dtype=np.float64)
    return np.asarray(fitted / max(float((read @ fitted).std()), SMALLEST))


def fit_curve(rank: Floats, win: Floats, weight: Floats) -> tuple[float, float]:
    """Return (slope, offset) of the log-odds of the win rate along the rank (Platt's method with soft labels).

    A curve bent at both ends was no better: the bends came out straight.
    """
    curve = _fit_soft(np.asarray(rank[:, np.newaxis], dtype=np.float32), win, weight, inverse_strength=1e6)
    return max(float(curve.weights[0, 0]), MIN_SLOPE), float(curve.offset[0])


def fit_chances(read: Floats32, weak: Floats, strong: Floats, weight: Floats) -> Linear:
    """Fit the log-odds that the weak side, the strong side and a frontier model answer well, (R, 3).

    The first two are logistic regressions on soft labels. The third is the strong side's, FRONTIER_LEAD better: users'
    strong models are mostly better than the data's, and then gain more where the strong side was seen to fail.
    """
    of_weak, of_strong = (_fit_soft(read, label, weight, CHANCE_C) for label in (weak, strong))
    weights = np.hstack([of_weak.weights, of_strong.weights, of_strong.weights])
    return Linear(weights, np.concatenate([of_weak.offset, of_strong.offset, of_strong.offset + FRONTIER_LEAD]))


def tell_chances(head: Linear, read: Floats32) -> Floats:
    """Return the chances (N, 3)."""
    return sigmoid(head.apply(read))


def _fit_soft(read: Floats32, label: Floats, weight: Floats, inverse_strength: float) -> Linear:
    # scikit-learn knows hard labels only: a row counts once as good and once as bad, in its label's parts.
    rows = np.vstack([read, read])
    is_good = np.repeat([1, 0], len(read))
    parts = np.concatenate([weight * label, weight * (1.0 - label)])
    fitted = LogisticRegression(C=inverse_strength, max_iter=200, tol=1e-3).fit(rows, is_good, sample_weight=parts)
    return Linear(fitted.coef_.T.astype(np.float64), fitted.intercept_.astype(np.float64))


def fit_tokens(read: Floats32, tokens: Floats) -> Linear:
    """Fit the logarithm of an answer's tokens."""
    fitted = Ridge(TOKENS_RIDGE).fit(read, np.log(tokens))
    return Linear(np.asarray(fitted.coef_, dtype=np.float64)[:, np.newaxis], np.array([fitted.intercept_]))


def fit_domains(whole: Floats32, votes: sparse.csr_matrix, domains: Sequence[str]) -> DomainHead:
    """Fit the domain by multinomial logistic regression on a text's vector and on which words it has."""
    read = sparse.hstack([sparse.csr_matrix(whole), votes * VOTE]).tocsr()
    label = np.array([DOMAINS.index(domain) for domain in domains])
    fitted = LogisticRegression(C=DOMAIN_C, max_iter=DOMAIN_ITERATIONS).fit(read, label)
    weights = np.zeros((read.shape[1], len(DOMAINS)))
    offset = np.full(len(DOMAINS), -30.0)  # a domain without a prompt is never named
    # Of two domains only the second is given weights: the log-odds of it against the first.
    named = fitted.classes_[-len(fitted.coef_) :]
    offset[fitted.classes_] = 0.0
    weights[:, named] = fitted.coef_.T
    offset[named] = fitted.intercept_
    width = whole.shape[1]
    table, scale = to_int8(np.asarray(weights[width:] * VOTE, dtype=np.float32))
    return DomainHead(table, scale, Linear(weights[:width], offset))


def tell_domains(head: DomainHead, whole: Floats32, votes: sparse.csr_matrix) -> Floats:
    """Return the probability of each domain, (N, domains)."""
    logits = head.of_vector.apply(whole) + (votes @ head.table.astype(np.float32)) * head.scale
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
