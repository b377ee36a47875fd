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
from router_models.space import to_int8

Floats = NDArray[np.float64]

CHANCE_C = 0.1
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
    """How the ranking is made: ridge's strength, and what joins what the strong side was measured to gain.

    `failing`: the weight of the weak side's failing. A user's strong model is often better than the data's, and then
    gains wherever the weak one fails. `length`: the weight of the stem's length, the one measure that helps a little on
    nearly every benchmark; ridge alone would shrink it towards nothing where the data are few. Both are counted in
    standard deviations of the gain's part. What was tried is in EXPERIMENTS.md.
    """

    strength: float = 300.0
    failing: float = 0.2
    length: float = 0.2


def fit_rank(read: Floats32, gap: Floats, failing: Floats, weight: Floats, recipe: Recipe) -> Linear:
    """Fit the ranking, (R, 1); its unit is a standard deviation of what is gained."""
    gains = _fit_ridge(read, gap, weight, recipe.strength)
    fails = _fit_ridge(read, failing, weight, recipe.strength)
    weights = gains + recipe.failing * fails
    weights[LENGTH] += recipe.length / max(float(read[:, LENGTH].std()), SMALLEST)
    return Linear(weights[:, np.newaxis], np.array([-float(read.mean(axis=0) @ weights)]))


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
    """Fit the chances that the weak and the strong side answer well, as two logistic regressions on soft labels."""
    both = [_fit_soft(read, label, weight, CHANCE_C) for label in (weak, strong)]
    return Linear(np.hstack([one.weights for one in both]), np.concatenate([one.offset for one in both]))


def _fit_soft(read: Floats32, label: Floats, weight: Floats, inverse_strength: float) -> Linear:
    # scikit-learn knows hard labels only: a row counts once as good and once as bad, in its label's parts.
    rows = np.vstack([read, read])
    is_good = np.repeat([1, 0], len(read))
    parts = np.concatenate([weight * label, weight * (1.0 - label)])
    fitted = LogisticRegression(C=inverse_strength, max_iter=500).fit(rows, is_good, sample_weight=parts)
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
