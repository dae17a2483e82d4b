"""How much the words of a product are those of a niche: TF-IDF over words and over parts of words, and LSA over both.

Words find what is called the same; parts of words find other forms, compounds and related languages (`Matten`,
`Yogamatte`); latent semantic analysis adds what goes together in the shop's own texts. All of it is fitted on the
texts at hand by scikit-learn: nothing is downloaded, and the same texts give the same figures. What it cannot know is
a synonym that no text uses. Weights and threshold were chosen on the tuning half of the labelled set of the tests.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Shares of the three similarities.
WORDS, PARTS, LATENT = 0.2, 0.3, 0.5
# At most; of few texts half as many, and of fewer still none, or everything would be like everything.
LATENT_DIMENSIONS = 60
FEWEST_DIMENSIONS = 8
# Below it nothing is offered: in the tuning half nearly all that suits is above, most that does not is below.
THRESHOLD = 0.4
SHOWN_WORDS = 6
# What every text has, in the languages that niches are mostly written in.
_COMMON = """
    a about after all an and any are as at be best but by can do for from get has have her his how i if in into is it
    its just like make me more my new no not of off on one or our out over she so than that the their them then they
    this to top up us use was way we what when where which who why will with without you your

    aber als am auch auf aus bei das dem den der des die ein eine einem einen einer es für hat ich im ist kein keine
    man mein mit nach nicht oder ohne sein sich sie und vom von vor war wenn wie wir zu zum zur

    al como con cual de del el en esta este esto la las le les lo los mas mi muy o para pero por que se sin su sus tu
    un una uno y ya

    au aux avec ce ces dans du elle est et il je ma mais mes ne nos notre nous ou par pas plus pour qui sa ses son
    sont sur une vos votre vous
"""
STOP_WORDS = frozenset(_COMMON.split())
_WORD = r"(?u)\b[^\W\d_][\w'’-]+\b"


@dataclass(frozen=True)
class Text:
    """What is said of a thing: its title and keywords count double beside its description."""

    heading: str
    keywords: str = ""
    body: str = ""

    @property
    def weighted(self) -> str:
        return " . ".join([self.heading, self.keywords] * 2 + [self.body])


@dataclass(frozen=True)
class Likeness:
    """0..1, and the words of the niche that the thing shares, the weightiest first."""

    score: float
    words: tuple[str, ...]


def likenesses(niches: Sequence[Text], things: Sequence[Text]) -> list[list[Likeness]]:
    """For each niche, how like it each thing is."""
    if not niches or not things:
        return [[] for _ in niches]
    import numpy as np

    texts = [text.weighted for text in (*niches, *things)]
    words, parts, names = _weights(texts)
    count = len(niches)
    similar = (
        WORDS * (words[:count] @ words[count:].T) + PARTS * (parts[:count] @ parts[count:].T)
    ).toarray()
    latent = _latent(words, parts)
    if latent is None:
        similar /= WORDS + PARTS
    else:
        similar += LATENT * np.clip(latent[:count] @ latent[count:].T, 0, 1)
    scores = np.clip(similar, 0, 1)
    weights = [_by_column(words, row) for row in range(len(texts))]
    return [
        [
            Likeness(round(float(scores[n, t]), 6), _shared(weights[n], weights[count + t], names))
            for t in range(len(things))
        ]
        for n in range(count)
    ]


def _weights(texts: Sequence[str]) -> tuple[Any, Any, Any]:
    """Unit rows of TF-IDF over words and over parts of words, and the names of the words' columns."""
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer, strip_accents_unicode

    shared: dict[str, Any] = {"sublinear_tf": True, "strip_accents": "unicode"}
    by_word = TfidfVectorizer(
        token_pattern=_WORD,
        ngram_range=(1, 2),
        stop_words=sorted(map(strip_accents_unicode, STOP_WORDS)),
        **shared,
    )
    by_part = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), **shared)
    try:
        words = by_word.fit_transform(texts)
    except ValueError:  # not a single word in any text
        return csr_matrix((len(texts), 1)), csr_matrix((len(texts), 1)), [""]
    without_stops = [_without_stops(text) for text in texts]
    return words, by_part.fit_transform(without_stops), by_word.get_feature_names_out()


def _without_stops(text: str) -> str:
    return " ".join(word for word in re.findall(_WORD, text.lower()) if word not in STOP_WORDS)


def _latent(words: Any, parts: Any) -> Any:
    """Unit rows in the space of what occurs together; None for too few texts."""
    from scipy.sparse import hstack
    from sklearn.decomposition import TruncatedSVD
    from sklearn.preprocessing import normalize

    both = hstack([words, parts]).tocsr()
    dimensions = min(LATENT_DIMENSIONS, both.shape[0] // 2, both.shape[1] - 1)
    if dimensions < FEWEST_DIMENSIONS:
        return None
    return normalize(TruncatedSVD(dimensions, random_state=7).fit_transform(both))


def _by_column(words: Any, row: int) -> dict[int, float]:
    start, end = words.indptr[row], words.indptr[row + 1]
    return dict(zip(words.indices[start:end].tolist(), words.data[start:end].tolist(), strict=True))


def _shared(niche: dict[int, float], thing: dict[int, float], names: Any) -> tuple[str, ...]:
    both = [(-weight * thing[column], column) for column, weight in niche.items() if column in thing]
    return tuple(str(names[column]) for _, column in sorted(both)[:SHOWN_WORDS])
