import numpy as np

from tfrec.inputs.user_rows import UserRows


def test_rows_of_users_golden():
    grouped = UserRows(np.array([4, 9, 2, 7, 5]), np.array([8, 0, 8, 3, 8]))
    assert grouped.num_users == 3
    assert grouped.gather(np.array([2, 0])).tolist() == [4, 2, 5, 9]
    assert grouped.gather(np.array([1])).tolist() == [7]
    assert grouped.gather(np.zeros(0, np.int64)).tolist() == []


def test_users_together_have_each_row_once():
    rng = np.random.default_rng(0)
    rows, user = rng.permutation(300), rng.integers(0, 40, 300)
    grouped = UserRows(rows, user)
    found = grouped.gather(rng.permutation(grouped.num_users))
    assert sorted(found) == sorted(rows)
    of_row = dict(zip(rows.tolist(), user.tolist(), strict=True))
    users = np.array([of_row[row] for row in found.tolist()])
    assert np.count_nonzero(np.diff(users)) == grouped.num_users - 1


def test_no_rows_are_no_users():
    assert UserRows(np.zeros(0, np.int64), np.zeros(0, np.int64)).num_users == 0
