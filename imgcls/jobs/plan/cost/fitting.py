"""What fitting the classifier takes, by the size of its features."""

from __future__ import annotations

# products of one pass over the features, and their values, of which the fit takes copies in
# float64: what is within both is fitted in minutes and a few GiB
MOST_PRODUCTS = 10**9
MOST_VALUES = 10**8


def fits_whole(views: int, pictures: int, width: int, num_classes: int) -> bool:
    """Whether scikit-learn's fit, which takes all features at once, is quick and small enough."""
    values = views * pictures * width
    return values <= MOST_VALUES and values * num_classes <= MOST_PRODUCTS
