"""The embedded data set: a small online shop whose every probability is known.

Nothing is downloaded. The same scale and seed give the same tables (on one kind of machine and
one release of numpy, polars), whoever asks, in whatever order the blocks are drawn. As the
probabilities are known, so is the best result a recommender can reach: `Shop.expected_clicks`.

The model, constants in `behaviour` and `events`:

- **Items.** A type (8 departments of 8), a brand, a material, a use, a colour. The table names
  department, brand and price; type, material, use and colour are found in the texts only. The
  item factor `q_i` in R^16 is the normalised sum of the vectors of type (strongest), brand,
  material and use. The style `z_i` in R^8 comes from colour, material and noise; the image is
  `z_i W` plus noise.
- **Users.** The taste `p_u(t)` in R^16 starts from the mean of the group (age, gender) plus noise
  of the user's own, and drifts in a straight line over the 60 days. A style `w_u` in R^8; a
  budget `b_u`, which depends on the region.
- **Affinity.** `4.6 p_u(t).q_i + 1.6 w_u.z_i - 0.8 (r_i - b_u)^2 + quality_i`, where `r_i` is the
  log of the price relative to the type.
- **Popularity.** Zipf weight of the item, times the season of its type, times a slow random walk,
  zero before the item is added. 5% of the items and of the users come in the last 7 days.
- **Exposure.** A session shows a slate: 10 independent slots, later duplicates dropped. A slot is
  drawn, with probability 0.2, by the popularity of the day; otherwise first a type by
  softmax(9 `p_u(t).v_type`), then an item by popularity within it.
- **Search.** A quarter of the sessions search for a type the user likes, most with a use, a
  material or a colour. The slate is drawn by popularity within the type.
- **Clicks.** P(click) = examination(position) * sigmoid(-3.1 + affinity + device + 1.2 if the item
  has the attribute searched for), examination = 1 / (1 + 0.08 (position - 1)).
  Source: Craswell et al., An experimental comparison of click position-bias models, WSDM 2008,
  the examination hypothesis.
- **After a click.** Carts follow about 20% of the clicks, more often at high affinity; purchases
  follow 40% of the carts.

At scale 1: 500,000 events, 10 to 11% of the shown items are clicked, and `true_probability` has
an AUC of 0.79. On the clicks of the last tenth of the events, recall at 100 is 0.11 by popularity
and 0.69 by `expected_clicks`.
"""

from tfrec.shop.generator import Shop
from tfrec.shop.world import ShopSize

__all__ = ["Shop", "ShopSize"]
