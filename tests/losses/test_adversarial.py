import numpy as np
import pytest
import tensorflow as tf

from tfrec.losses.adversarial import perturb

EPSILON = 0.1


def draw(seed: int) -> dict[str, tf.Tensor]:
    rng = np.random.default_rng(seed)
    return {
        "users": tf.constant(rng.normal(size=(6, 4)).astype(np.float32)),
        "histories": tf.constant(rng.normal(0, 3, size=(2, 3, 4)).astype(np.float32)),
    }


def convex_loss(embeddings: dict[str, tf.Tensor]) -> tf.Tensor:
    """Log-sum-exp of linear scores and a square: smooth, convex, strongly bent."""
    table = tf.constant(np.random.default_rng(9).normal(0, 4, (4, 8)).astype(np.float32))
    scores = tf.matmul(embeddings["users"], table)
    bend = tf.reduce_sum((embeddings["histories"] * tf.constant([1.0, 4.0, 9.0, 0.5])) ** 2)
    return tf.reduce_sum(tf.reduce_logsumexp(scores, axis=1)) + bend


def lengths(vectors: tf.Tensor) -> np.ndarray:
    return np.sqrt((vectors.numpy().astype(float) ** 2).sum(axis=-1))


@pytest.mark.parametrize(("method", "steps"), [("fgm", 1), ("pgd", 1), ("pgd", 3), ("pgd", 10)])
def test_push_stays_within_its_share_of_each_length_and_raises_the_loss(method, steps):
    for seed in range(4):
        start = draw(seed)
        pushed = perturb(convex_loss, start, method=method, epsilon=EPSILON, steps=steps)
        assert pushed.keys() == start.keys()
        for name, vectors in start.items():
            moved = lengths(pushed[name] - vectors)
            assert (moved <= EPSILON * lengths(vectors) * (1 + 1e-5)).all()
            assert (moved > 0).all()
        assert convex_loss(pushed) > convex_loss(start)


def test_fgm_of_a_linear_loss_is_the_steepest_push():
    # The loss is 3x + 4y, its slope 5: a push of 0.1 * |(0, 2)| = 0.2 along (0.6, 0.8) adds 1.
    pushed = perturb(
        lambda vectors: tf.reduce_sum(vectors * tf.constant([3.0, 4.0])),
        tf.constant([[0.0, 2.0]]),
        method="fgm",
        epsilon=0.1,
    )
    np.testing.assert_allclose(pushed, [[0.12, 2.16]], rtol=1e-6)


def test_fgm_raises_the_loss_by_its_slope_to_first_order():
    start = draw(0)
    small = 1e-3
    with tf.GradientTape() as tape:
        tape.watch(start)
        loss = convex_loss(start)
    gradients = tape.gradient(loss, start)
    wanted = sum((small * lengths(start[name]) * lengths(gradients[name])).sum() for name in start)
    pushed = perturb(convex_loss, start, method="fgm", epsilon=small)
    assert float(convex_loss(pushed) - loss) == pytest.approx(wanted, rel=0.05)


def test_pgd_of_a_convex_loss_raises_it_at_least_as_much_as_fgm():
    gains = []
    for seed in range(6):
        start = draw(seed)
        fgm = convex_loss(perturb(convex_loss, start, method="fgm", epsilon=0.5))
        pgd = convex_loss(perturb(convex_loss, start, method="pgd", epsilon=0.5, steps=10))
        gains.append(float(pgd - fgm))
    assert min(gains) > -1e-3
    assert max(gains) > 0.1


def test_pgd_of_one_step_is_fgm():
    start = draw(1)
    fgm = perturb(convex_loss, start, method="fgm", epsilon=EPSILON)
    pgd = perturb(convex_loss, start, method="pgd", epsilon=EPSILON, steps=1)
    for name in start:
        np.testing.assert_allclose(pgd[name], fgm[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["fgm", "pgd"])
def test_zero_gradient_zero_length_and_unused_embeddings_are_not_pushed(method):
    start = [tf.constant([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]]), tf.ones([2, 2])]
    # Only rows 1 and 2 of the first tensor count; row 2 has no length.
    pushed = perturb(
        lambda tensors: tf.reduce_sum(tensors[0][1:]), start, method=method, epsilon=EPSILON
    )
    np.testing.assert_array_equal(pushed[0].numpy()[[0, 2]], start[0].numpy()[[0, 2]])
    assert (pushed[0].numpy()[1] > start[0].numpy()[1]).all()
    np.testing.assert_array_equal(pushed[1], start[1])


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_push_of_tiny_and_huge_gradients_has_full_length(scale):
    start = tf.constant([[3.0, 4.0]])
    pushed = perturb(
        lambda vectors: scale * tf.reduce_sum(vectors), start, method="fgm", epsilon=EPSILON
    )
    assert lengths(pushed - start)[0] == pytest.approx(EPSILON * 5, rel=1e-4)


def test_gradient_of_pushed_embeddings_takes_the_push_as_constant():
    weights = tf.Variable(tf.ones([4]))
    start = tf.constant(np.random.default_rng(2).normal(size=(5, 4)).astype(np.float32))

    def loss_of(vectors: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(weights * vectors**3)

    @tf.function(autograph=False)
    def step() -> tuple[tf.Tensor, ...]:
        with tf.GradientTape() as tape:
            tape.watch(start)
            pushed = perturb(loss_of, start, method="pgd", epsilon=EPSILON)
            loss = loss_of(pushed)
        return (pushed, *tape.gradient(loss, [start, weights]))

    pushed, of_start, of_weights = step()
    np.testing.assert_allclose(of_start, 3 * pushed.numpy() ** 2, rtol=1e-5)
    np.testing.assert_allclose(of_weights, (pushed.numpy() ** 3).sum(axis=0), rtol=1e-4)


def test_loss_that_gathers_rows_is_followed():
    start = tf.constant([[1.0, 1.0], [1.0, 1.0]])
    pushed = perturb(
        lambda table: tf.reduce_sum(tf.gather(table, [1, 1])), start, method="fgm", epsilon=EPSILON
    )
    assert lengths(pushed - start).tolist() == pytest.approx([0, EPSILON * np.sqrt(2)])
