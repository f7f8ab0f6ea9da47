import torch

from relpretrain.objectives.negatives import draw_hard_negatives, same_pair


def test_pairs_that_share_an_image_or_a_text():
    image, text = torch.tensor([1, 1, 2, 3]), torch.tensor([7, 8, 9, 7])
    same = same_pair(image, text, image, text)
    shared = {(0, 1), (1, 0), (0, 3), (3, 0)} | {(i, i) for i in range(4)}
    assert {(i, j) for i in range(4) for j in range(4) if same[i, j]} == shared


def test_draws_follow_the_softmax_over_allowed_columns():
    logits = torch.tensor([[0.0, 1.0, 2.0, 5.0]]).repeat(40_000, 1)
    forbidden = torch.tensor([[False, False, False, True]]).repeat(40_000, 1)
    drawn, found = draw_hard_negatives(logits, forbidden, torch.Generator().manual_seed(0))
    share = torch.bincount(drawn, minlength=4) / len(drawn)
    expected = torch.cat([logits[0, :3].softmax(0), torch.zeros(1)])
    assert found.all()
    assert torch.allclose(share, expected, atol=0.01)
    assert share[3] == 0


def test_extreme_logits_never_fail_and_never_draw_a_forbidden_column():
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [3.0, 1e30, -1e30]])
    forbidden = torch.eye(3, dtype=torch.bool)
    for seed in range(200):
        drawn, found = draw_hard_negatives(logits, forbidden, torch.Generator().manual_seed(seed))
        assert found.all()
        assert (drawn != torch.arange(3)).all()


def test_the_floor_opens_no_forbidden_column():
    forbidden = torch.tensor([[True, False, True, False, True]]).repeat(500, 1)
    drawn, _ = draw_hard_negatives(torch.zeros(500, 5), forbidden, torch.Generator().manual_seed(0), floor=1.0)
    assert set(drawn.tolist()) == {1, 3}


def test_a_row_without_candidates_says_so():
    forbidden = torch.tensor([[True, True], [False, True]])
    drawn, found = draw_hard_negatives(torch.zeros(2, 2), forbidden, torch.Generator().manual_seed(0))
    assert found.tolist() == [False, True]
    assert drawn[1] == 0


def test_the_generator_alone_decides():
    logits, forbidden = torch.randn(5, 5), torch.eye(5, dtype=torch.bool)
    torch.manual_seed(1)
    first = draw_hard_negatives(logits, forbidden, torch.Generator().manual_seed(3))[0]
    torch.manual_seed(2)
    assert torch.equal(first, draw_hard_negatives(logits, forbidden, torch.Generator().manual_seed(3))[0])
