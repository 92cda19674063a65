"""What the confident joint counts, and which labels it accuses."""

import torch

from models.evaluation.confident_learning import confident_joint, label_errors


def test_the_joint_is_as_the_paper_counts_it() -> None:
    """Worked out by hand: the thresholds are 0.6 and 0.65; one image reaches neither."""
    shares = torch.tensor(
        [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.65, 0.35], [0.0, 1.0], [0.45, 0.55]]
    ).double()
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 0])
    # Means of the own class: (0.9 + 0.8 + 0.1 + 0.45) / 4 = 0.5625 and (0.7 + 0.35 + 1) / 3.
    assert confident_joint(shares, labels).tolist() == [[3, 1], [1, 2]]
    found = label_errors(shares, labels)
    assert found.flagged.nonzero()[:, 0].tolist() == [2, 4]
    assert found.likely.tolist() == [0, 0, 1, 1, 0, 1, 1]
    assert torch.allclose(found.scores[[0, 2, 4]], torch.tensor([0.1, 0.9, 0.65]).double())


def test_a_class_of_which_a_network_is_unsure_is_not_accused_as_a_whole() -> None:
    """All answers about class 1 lean to class 0, by as much as is usual for it."""
    shares = torch.tensor([[0.99, 0.01]] * 20 + [[0.6, 0.4]] * 20).double()
    labels = torch.tensor([0] * 20 + [1] * 20)
    assert not label_errors(shares, labels).flagged.any()
    shares[5] = torch.tensor([0.6, 0.4])  # As unsure, and nothing is likelier than its own class.
    assert not label_errors(shares, labels).flagged.any()
    labels[3] = 1
    assert label_errors(shares, labels).flagged.nonzero()[:, 0].tolist() == [3]


def test_changed_labels_are_found_among_noisy_answers() -> None:
    generator = torch.Generator().manual_seed(5)
    true = torch.arange(600) % 5
    logits = torch.randn(600, 5, generator=generator) + 4 * torch.nn.functional.one_hot(true, 5)
    labels = true.clone()
    labels[:60] = (labels[:60] + 2) % 5
    found = label_errors(logits.double().softmax(1), labels)
    assert found.flagged[:60].double().mean() > 0.85
    assert found.flagged[60:].double().mean() < 0.03
    assert (found.likely[:60] == true[:60]).double().mean() > 0.9
    worst = found.scores.argsort(descending=True)[:50]
    assert (worst < 60).double().mean() > 0.9


def test_a_class_without_images_is_nobodys() -> None:
    """One that is in other splits alone; what is surely of it is of no class that is there."""
    shares = torch.tensor([[0.0, 0.0, 1.0], [0.9, 0.1, 0.0], [0.1, 0.9, 0.0]]).double()
    labels = torch.tensor([0, 0, 1])
    assert confident_joint(shares, labels).tolist() == [[2, 0, 0], [0, 1, 0], [0, 0, 0]]
